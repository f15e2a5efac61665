"""The server's model: the arrays that a user knows, and the vector that is trained."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import LasgConfig
from ..layout import Layout
from ..protocol import LasgServer


class Model:
    """Layout and integer arrays of a model; θ and buffers live in the server.

    Parameters
    ----------
    named : mapping of str to ndarray
        The model's arrays, by name.
    buffers : iterable of str, optional
        Names of floating arrays without gradient, see `Layout.of`.

    Attributes
    ----------
    layout : Layout
        Names, shapes, dtypes and kinds.
    theta : ndarray, shape (p,), float32
        θ^0.
    buffers : ndarray, shape (B,), float32
        The buffers' first values.
    """

    def __init__(
        self, named: Mapping[str, NDArray[Any]], buffers: Iterable[str] | None = None
    ) -> None:
        self.layout = Layout.of(named, buffers)
        self.layout_json = self.layout.to_json()
        self.theta = self.layout.flatten(named, "parameter")
        self.buffers = self.layout.flatten(named, "buffer")
        self.integers = self.layout.integers(named)

    def server(self, config: LasgConfig) -> LasgServer:
        """Return a new server for this model."""
        return LasgServer(
            self.theta,
            config,
            model_bytes=self.layout.packed_bytes,
            buffers=self.buffers,
        )

    def packed(self, server: LasgServer) -> NDArray[np.uint8]:
        """Return the server's model as one packed array."""
        return self.layout.pack(server.theta, server.buffers, self.integers)

    def arrays(self, server: LasgServer) -> dict[str, NDArray[Any]]:
        """Return the server's model under its own names and dtypes."""
        return self.layout.unflatten(server.theta, server.buffers, self.integers)


def named_by_position(arrays: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return arrays without names under ``"0"``, ``"1"`` and so on."""
    return {str(i): array for i, array in enumerate(arrays)}


def batch_norm_statistics(arrays: Sequence[NDArray[Any]]) -> list[str]:
    """Return the positions of what looks like running means and variances.

    A PyTorch ``state_dict`` has them as two vectors of one length right before a
    scalar integer, ``num_batches_tracked``.

    Examples
    --------
    >>> weight, bias, mean, variance = (np.ones(8) for _ in range(4))
    >>> batch_norm_statistics([weight, bias, mean, variance, np.array(0)])
    ['2', '3']
    >>> batch_norm_statistics([weight, bias])
    []
    """
    found = []
    triples = zip(arrays, arrays[1:], arrays[2:], strict=False)
    for i, (mean, variance, batches) in enumerate(triples):
        vectors = mean.ndim == 1 and mean.shape == variance.shape
        floating = mean.dtype.kind == variance.dtype.kind == "f"
        if vectors and floating and batches.dtype.kind == "i" and batches.ndim == 0:
            found += [str(i), str(i + 1)]
    return found
