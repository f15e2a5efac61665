"""How many coordinates a sparse codec keeps."""

import struct
from dataclasses import dataclass

from ..checks import real, whole


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
        if self.k is not None:
            k = whole("k", self.k, least=1)
            object.__setattr__(self, "k", whole("k", k, most=(1 << 32) - 1))
        fraction = real("fraction", self.fraction, above=0.0, most=1.0)
        object.__setattr__(self, "fraction", fraction)
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
