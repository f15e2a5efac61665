"""How many coordinates a sparse codec keeps."""

import struct
from dataclasses import dataclass
from numbers import Real


@dataclass(frozen=True)
class Sparsity:
    """k coordinates, or a fraction of them.

    Examples
    --------
    >>> Sparsity(k=10).kept(5), Sparsity(fraction=0.1).kept(50)
    (5, 5)
    """

    k: int | None = None
    fraction: float = 0.01

    def __post_init__(self) -> None:
        if self.k is not None and (
            not isinstance(self.k, int) or not 1 <= self.k < 1 << 32
        ):
            raise ValueError(f"k must be an integer >= 1, got {self.k!r}")
        if not isinstance(self.fraction, Real) or not 0.0 < self.fraction <= 1.0:
            raise ValueError(f"fraction must lie in (0, 1], got {self.fraction!r}")
        if self.k is not None and self.fraction != Sparsity.fraction:
            raise ValueError(
                f"k={self.k!r} and fraction={self.fraction!r} are both given: give one"
            )

    @property
    def most_kept(self) -> int | None:
        """k, where it is given."""
        return self.k

    @property
    def parameters(self) -> bytes:
        """The number k as uint32, or the fraction as float64, little-endian."""
        if self.k is not None:
            return struct.pack("<I", self.k)
        return struct.pack("<d", self.fraction)

    def kept(self, size: int) -> int:
        """Return how many of `size` coordinates are kept."""
        k = self.k if self.k is not None else max(1, round(self.fraction * size))
        return min(k, size)
