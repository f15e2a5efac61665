"""Gradients of many workers in one call, for oracles that share a module."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from ...errors import NotTogetherError
from ...vectors import F32, frozen

if TYPE_CHECKING:
    from .oracle import Batch, TorchOracle

LARGEST_SIZE = 1 << 22
"""Longest θ: the gradients of many workers at once take so much memory each."""

TOLERANCE = 1e-4
"""Largest relative difference between a gradient computed together and by itself."""

Named = Mapping[str, Tensor]


class Together:
    """∇ℓ(θ; ξ_m) of many workers m at one θ: a `torch.func.vmap` over their batches.

    Points at one θ with batches of one size are computed in one call; a point without
    another like it is left to its oracle, as stacking models costs more than it saves.
    The first call computes a few gradients by themselves as well and compares: a model
    that vmap would compute otherwise is not computed so.

    Parameters
    ----------
    oracles : sequence of TorchOracle
        One for each worker.

    Raises
    ------
    NotTogetherError
        If they do not share all but the data, or the data or the model does not allow
        it, with the reason.
    """

    def __init__(self, oracles: Sequence["TorchOracle"]) -> None:
        check(oracles)
        self._oracles = oracles
        first = oracles[0]
        self._model = first.model
        self._parameters = self._model.named_parameters()
        self._gradients: Callable[..., Named] = vmap(
            grad(_loss_of(first)), in_dims=(None, None, 0), randomness="error"
        )
        self._compared = False

    def __call__(
        self,
        workers: Sequence[int],
        thetas: Sequence[F32],
        batches: Sequence["Batch"],
    ) -> list[F32]:
        """Return the gradient of each (worker, θ, batch).

        Raises
        ------
        NotTogetherError
            If PyTorch cannot compute them together, or they come out differently.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        for i, (theta, batch) in enumerate(zip(thetas, batches, strict=True)):
            groups.setdefault((id(theta), len(batch.indices)), []).append(i)
        found: dict[int, F32] = {}
        for at in groups.values():
            if len(at) > 1:
                drawn = [(workers[i], batches[i]) for i in at]
                found.update(zip(at, self._at(thetas[at[0]], drawn), strict=True))
            else:
                (i,) = at
                found[i] = self._oracles[workers[i]].gradient(thetas[i], batches[i])
        gradients = [found[i] for i in range(len(found))]
        if not self._compared:
            self._compare(gradients, workers, thetas, batches)
        return gradients

    def _at(self, theta: F32, drawn: list[tuple[int, "Batch"]]) -> list[F32]:
        trained, still = self._split(theta)
        examples = [self._oracles[m].examples(batch) for m, batch in drawn]
        stacked = tuple(torch.stack(parts) for parts in zip(*examples, strict=True))
        try:
            found = self._gradients(trained, still, stacked)
        except Exception as error:  # whatever vmap, or the model within it, raises
            text = str(error).strip() or "no reason given"
            raise NotTogetherError(
                f"torch.func.vmap refuses the model: {type(error).__name__}: "
                f"{text.splitlines()[0]}"
            ) from error
        return self._rows(found, theta, len(drawn))

    def _split(self, theta: F32) -> tuple[Named, Named]:
        """Return θ as trained tensors and others, by name."""
        flat = torch.tensor(theta, device=self._model.device)
        sizes = [tensor.numel() for tensor in self._parameters.values()]
        trained: dict[str, Tensor] = {}
        still: dict[str, Tensor] = {}
        for part, (name, tensor) in zip(
            torch.split(flat, sizes), self._parameters.items(), strict=True
        ):
            value = part.view(tensor.shape).to(tensor.dtype)
            (trained if tensor.requires_grad else still)[name] = value
        return trained, still

    def _rows(self, found: Named, theta: F32, count: int) -> list[F32]:
        rows = torch.zeros(count, theta.size, device=self._model.device)
        at = 0
        for name, tensor in self._parameters.items():
            end = at + tensor.numel()
            if name in found:
                rows[:, at:end].copy_(found[name].detach().reshape(count, -1))
            at = end
        gradients: list[F32] = list(rows.numpy(force=True))
        if decay := self._oracles[0].weight_decay:
            for gradient in gradients:
                self._model.add_decay(gradient, theta, decay)
        return [frozen(gradient) for gradient in gradients]

    def _compare(
        self,
        gradients: Sequence[F32],
        workers: Sequence[int],
        thetas: Sequence[F32],
        batches: Sequence["Batch"],
    ) -> None:
        for i in {0, len(gradients) // 2, len(gradients) - 1}:
            found, m = gradients[i], workers[i]
            own = self._oracles[m].gradient(thetas[i], batches[i])
            if not np.allclose(found, own, TOLERANCE, TOLERANCE * _largest(own)):
                raise NotTogetherError(
                    f"under torch.func.vmap the gradient of worker {m} differs from "
                    f"its own by up to {_largest(found - own):.3g}: does the model "
                    "draw random numbers, or branch on numbers?"
                )
        self._compared = True


def _largest(x: F32) -> float:
    return float(np.max(np.abs(x)))


def _loss_of(
    oracle: "TorchOracle",
) -> Callable[[Named, Named, tuple[Tensor, ...]], Any]:
    module, loss = oracle.model.module, oracle.loss

    def loss_of(trained: Named, still: Named, batch: tuple[Tensor, ...]) -> Any:
        output = functional_call(module, {**still, **trained}, batch[:-1])
        return loss(output, batch[-1])

    return loss_of


def check(oracles: Sequence["TorchOracle"]) -> None:
    """Raise NotTogetherError unless these oracles can be computed together."""
    for reason in _reasons(oracles):
        raise NotTogetherError(reason)


def _reasons(oracles: Sequence["TorchOracle"]) -> list[str]:
    first, shapes = oracles[0], set()
    for oracle in oracles:
        if type(oracle) is not type(first):
            return ["the oracles are of several classes"]
        if not oracle.shares_all_but_data(first):
            return ["the oracles do not share module, loss, weight decay and device"]
        if (form := oracle.form_of_examples()) is None:
            return ["examples are not tensors of a TensorDataset, or forward= is given"]
        shapes.add(form)
    if len(shapes) > 1:
        return ["the workers' examples are of several shapes or types"]
    model = first.model
    if any(entry.kind != "parameter" for entry in model.layout.entries):
        return ["the model has buffers or integers, which each worker changes"]
    if model.is_tied:
        return ["parameters of the model are tied"]
    if first.size > LARGEST_SIZE:
        return [f"the model has {first.size} parameters, more than {LARGEST_SIZE}"]
    return []
