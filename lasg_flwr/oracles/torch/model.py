"""A PyTorch model seen as θ, buffers and integers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...layout import ArrayKind, Layout
from ...vectors import F32


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

    Raises
    ------
    ValueError
        If no parameter needs a gradient, or the state holds something not a tensor.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module = module.to(device)
        self._device = device
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
        self._trained = _last_of_each(self._parts["parameter"])
        if not any(self._trained):
            raise ValueError("no parameter of the model needs a gradient")
        self._integers = [t.detach().clone() for t in self._parts["integer"]]

    def load(self, theta: F32) -> None:
        """Put θ into the module."""
        self._fill("parameter", theta, self.layout.size)

    def load_buffers(self, values: F32) -> None:
        """Put buffers and the initial integers into the module."""
        self._fill("buffer", values, self.layout.buffer_size)
        with torch.no_grad():
            for tensor, value in zip(
                self._parts["integer"], self._integers, strict=True
            ):
                tensor.copy_(value)

    def buffers(self) -> F32:
        """Return what the module's buffers hold now."""
        parts = self._parts["buffer"]
        return np.concatenate(
            [np.zeros(0, np.float32), *(_array(part).ravel() for part in parts)]
        )

    def gradient_of(self, loss: Tensor) -> F32:
        """Return the gradient of `loss` by θ; 0 where θ has no part in it."""
        pairs = list(zip(self._parts["parameter"], self._trained, strict=True))
        wanted = [tensor for tensor, trained in pairs if trained]
        found = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
        parts = []
        for tensor, trained in pairs:
            part = next(found) if trained else None
            part = torch.zeros_like(tensor) if part is None else part
            parts.append(part.reshape(-1).float())
        gradient: F32 = torch.cat(parts).numpy(force=True)
        return gradient

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

    def _fill(self, kind: ArrayKind, values: F32, size: int) -> None:
        if values.shape != (size,):
            raise ValueError(
                f"got a {kind} vector of shape {values.shape}, but the model's has "
                f"{size} elements: is it the same model, in the same order?"
            )
        flat = torch.tensor(values, device=self._device)
        at = 0
        with torch.no_grad():
            for tensor in self._parts[kind]:
                end = at + tensor.numel()
                tensor.copy_(flat[at:end].view(tensor.shape))
                at = end


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
