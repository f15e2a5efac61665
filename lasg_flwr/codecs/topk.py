"""Top-k: the k coordinates of largest magnitude."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import WireError
from ..vectors import F32
from .base import Codec


@dataclass(frozen=True)
class TopK(Codec):
    """Keep the k coordinates of largest magnitude, exactly.

    Body: k indices as little-endian uint32, strictly increasing, then k float32
    values. Contractive with α = k/p: ‖C(x) − x‖² ≤ (1 − k/p)‖x‖², with equality where
    all magnitudes are equal. Biased, so not for gradient memory. Ties go to the lower
    index.

    Parameters
    ----------
    k : int, optional
        Coordinates kept (all, if the vector is shorter).
    fraction : float, optional (default: 0.01)
        Share of the coordinates kept, at least one; ignored if `k` is given.

    Examples
    --------
    >>> codec = TopK(k=1)
    >>> codec.decode(codec.encode(np.float32([1, -3, 2])), 3).tolist()
    [0.0, -3.0, 0.0]
    """

    name: ClassVar[str] = "topk"
    tag: ClassVar[int] = 2

    k: int | None = None
    fraction: float = 0.01

    def __post_init__(self) -> None:
        if self.k is not None and (not isinstance(self.k, int) or self.k < 1):
            raise ValueError(f"k must be an integer >= 1, got {self.k!r}")
        if not 0.0 < self.fraction <= 1.0:
            raise ValueError(f"fraction must lie in (0, 1], got {self.fraction!r}")

    def kept(self, size: int) -> int:
        """Return how many of `size` coordinates are kept."""
        k = self.k if self.k is not None else max(1, round(self.fraction * size))
        return min(k, size)

    def alpha(self, size: int) -> float:
        """Return k/p."""
        return self.kept(size) / size if size else 1.0

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        """Return indices and values of the largest coordinates."""
        k = self.kept(x.size)
        order = np.argsort(-np.abs(x), kind="stable")[:k]
        indices = np.sort(order).astype("<u4")
        values: bytes = x[indices].astype("<f4", copy=False).tobytes()
        return indices.tobytes() + values

    def decode(self, body: bytes, size: int) -> F32:
        """Return the vector with the kept coordinates, zero elsewhere."""
        k = self.kept(size)
        if len(body) != 8 * k:
            raise WireError(
                f"a top-k body of {len(body)} bytes does not hold {k} coordinates"
            )
        indices = np.frombuffer(body, "<u4", k).astype(np.int64)
        if k and (indices[-1] >= size or np.any(indices[1:] <= indices[:-1])):
            raise WireError("the indices of a top-k body do not increase within range")
        x = np.zeros(size, np.float32)
        x[indices] = np.frombuffer(body, "<f4", k, 4 * k)
        return x
