"""One flat vector beside a module's parameters: θ on its way in, gradients out."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn


class FlatVector:
    """A float32 vector of length p, and its parts in the parameters' shapes.

    Parameters
    ----------
    shapes : sequence of torch.Size
        Those of the parameters, in θ's order.
    device : torch.device
        Where it is.

    Attributes
    ----------
    values : Tensor, shape (p,)
        The vector.
    parts : tuple of Tensor
        Views of it.
    """

    def __init__(self, shapes: Sequence[torch.Size], device: torch.device) -> None:
        self.shapes, self.device = tuple(shapes), device
        sizes = [shape.numel() for shape in shapes]
        self.values = torch.empty(sum(sizes), device=device)
        pieces = torch.split(self.values, sizes)
        self.parts = tuple(
            piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)
        )


_KNOWN: WeakKeyDictionary[nn.Module, FlatVector] = WeakKeyDictionary()


def flat_of(module: nn.Module, parameters: Sequence[Tensor]) -> FlatVector:
    """Return the vector of a module; all its oracles share one, as they share it.

    What is in it is of use until the next call for the same module.
    """
    shapes = tuple(tensor.shape for tensor in parameters)
    known, device = _KNOWN.get(module), parameters[0].device
    if known is None or known.shapes != shapes or known.device != device:
        known = _KNOWN[module] = FlatVector(shapes, device)
    return known
