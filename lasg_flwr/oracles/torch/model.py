"""A PyTorch model seen as θ, buffers and integers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...layout import ArrayKind, Layout
from ...vectors import F32, NO_BUFFERS
from .flat import flat_of


class TorchModel:
    """Loads vectors into a module and reads gradients and buffers out of it.

    Parameters
    ----------
    module : nn.Module
        Moved to `device`; its values now are the initial ones.
    device : torch.device
        Where to compute.

    Attributes
    ----------
    arrays : dict of str to ndarray
        The initial model, by the names of ``state_dict()``; start a strategy with it.
    layout : Layout
        Names, shapes and kinds.
    device : torch.device
        Where it computes.

    Raises
    ------
    ValueError
        If no parameter needs a gradient, or the state holds something not a tensor.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module = module.to(device)
        self.device = device
        state = module.state_dict(keep_vars=True)
        if strange := [n for n, t in state.items() if not isinstance(t, Tensor)]:
            raise ValueError(
                f"the model's state {strange[0]!r} is no tensor: keep it out of "
                "state_dict()"
            )
        self.arrays = {name: _array(tensor) for name, tensor in state.items()}
        buffers = [n for n, t in state.items() if not isinstance(t, nn.Parameter)]
        self.layout = Layout.of(self.arrays, buffers)
        self._parts: dict[ArrayKind, list[Tensor]] = {
            kind: [state[e.name] for e in self.layout.entries if e.kind == kind]
            for kind in ("parameter", "buffer", "integer")
        }
        _ = self._trained
        self._integers = [t.detach().clone() for t in self._parts["integer"]]

    @property
    def is_tied(self) -> bool:
        """Whether a parameter has several names."""
        parameters = self._parts["parameter"]
        return len({id(tensor) for tensor in parameters}) < len(parameters)

    @property
    def _trained(self) -> list[bool]:
        """Whether each parameter carries a gradient now: layers may be thawed."""
        trained = _last_of_each(self._parts["parameter"])
        if not any(trained):
            raise ValueError("no parameter of the model needs a gradient")
        return trained

    def named_parameters(self) -> dict[str, Tensor]:
        """Return the parameters by name, in θ's order."""
        names = [e.name for e in self.layout.entries if e.kind == "parameter"]
        return dict(zip(names, self._parts["parameter"], strict=True))

    def load(self, theta: F32) -> None:
        """Put θ into the module."""
        self._check("parameter", theta, self.layout.size)
        parameters = self._parts["parameter"]
        flat = flat_of(self.module, parameters)
        if flat.device.type == "cpu":
            np.copyto(flat.values.numpy(), theta)
        else:
            flat.values.copy_(torch.tensor(theta))
        with torch.no_grad():
            for tensor, part in zip(parameters, flat.parts, strict=True):
                tensor.copy_(part)

    def load_buffers(self, values: F32) -> None:
        """Put buffers and the initial integers into the module."""
        self._check("buffer", values, self.layout.buffer_size)
        buffers, integers = self._parts["buffer"], self._parts["integer"]
        if not (buffers or integers):
            return
        flat = torch.tensor(values, device=self.device)
        with torch.no_grad():
            for tensor, part in zip(buffers, _split(flat, buffers), strict=True):
                tensor.copy_(part)
            for tensor, value in zip(integers, self._integers, strict=True):
                tensor.copy_(value)

    def buffers(self) -> F32:
        """Return what the module's buffers hold now."""
        if not self._parts["buffer"]:
            return NO_BUFFERS
        return np.concatenate([_array(part).ravel() for part in self._parts["buffer"]])

    def gradient_of(self, loss: Tensor) -> F32:
        """Return the gradient of `loss` by θ; 0 where θ has no part in it."""
        parameters = self._parts["parameter"]
        trained = self._trained
        wanted = [t for t, one in zip(parameters, trained, strict=True) if one]
        found = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
        flat = flat_of(self.module, parameters)
        for part, one in zip(flat.parts, trained, strict=True):
            gradient = next(found) if one else None
            if gradient is None:
                part.zero_()
            else:  # an Embedding's may be sparse
                part.copy_(gradient.to_dense() if gradient.is_sparse else gradient)
        if flat.device.type == "cpu":
            return flat.values.numpy().copy()
        copied: F32 = flat.values.numpy(force=True)
        return copied

    def add_decay(self, gradient: F32, theta: F32, weight_decay: float) -> None:
        """Add λθ on the trainable parameters to `gradient`."""
        at = 0
        for tensor, trained in zip(
            self._parts["parameter"], self._trained, strict=True
        ):
            end = at + tensor.numel()
            if trained:
                gradient[at:end] += np.float32(weight_decay) * theta[at:end]
            at = end

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Run in evaluation mode, and go back to each module's own mode."""
        modes = [(m, m.training) for m in self.module.modules()]
        self.module.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode

    def _check(self, kind: ArrayKind, values: F32, size: int) -> None:
        if values.shape != (size,):
            raise ValueError(
                f"got a {kind} vector of shape {values.shape}, but the model's has "
                f"{size} elements: is it the same model, in the same order?"
            )


def _split(flat: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]


def _array(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.detach()
    if tensor.is_floating_point():
        tensor = tensor.float()
    return np.array(tensor.cpu().numpy())


def _last_of_each(tensors: list[Tensor]) -> list[bool]:
    """Return which names carry the gradient: the last one of each trainable tensor."""
    last = {id(tensor): position for position, tensor in enumerate(tensors)}
    return [
        tensor.requires_grad and last[id(tensor)] == position
        for position, tensor in enumerate(tensors)
    ]
