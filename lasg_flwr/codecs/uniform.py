"""Uniform: every coordinate to the nearest of a grid, as LAQ does."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..vectors import F32
from .base import Codec
from .coding import entropy as stream
from .coding import levels
from .coding.entropy import BytesLike
from .coding.inputs import as_vector
from .qsgd import checked_bits, decode_levels, levels_of


@dataclass(frozen=True)
class Uniform(Codec):
    """C(x)_i = R·l_i/s with l_i = s·x_i/R rounded to the nearest integer.

    R = ‖x‖∞ and s = 2^{bits−1} − 1 (Sun et al., LAQ, 2019). The grid holds 0 and ±R:
    the largest coordinate is exact, all others are off by at most R/2s, and so
    ‖C(x) − x‖² <= (1 − α)‖x‖² with α = 1/(1 + (p − 1)/4s²), reached where all others
    are half a step. (LAQ's own grid has no 0 and does not contract.) Biased.

    Body: R as little-endian float32, then the level stream of p codes s + l_i.

    Parameters
    ----------
    bits : int (default: 4)
        Bits a coordinate before entropy coding, 2 to 16.
    entropy : {"zstd", "range", "raw"} (default: "zstd")
        How a sender codes the levels; ``range`` needs the extra ``entropy``.

    Examples
    --------
    >>> codec = Uniform(bits=4)
    >>> codec.decode(codec.encode(np.float32([-7, 2.4, 0.1])), 3).tolist()
    [-7.0, 2.0, 0.0]
    """

    name: ClassVar[str] = "uniform"
    tag: ClassVar[int] = 4
    always_finite: ClassVar[bool] = True

    bits: int = 4
    entropy: str = "zstd"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", checked_bits(self.bits))
        stream.check_choice(self.entropy)

    @property
    def parameters(self) -> bytes:
        """Bits."""
        return bytes([self.bits])

    def alpha(self, size: int) -> float:
        """Return 1/(1 + (p − 1)/4s²)."""
        return 1 / (1 + max(0, size - 1) / (4 * levels_of(self.bits) ** 2))

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        """Return the radius and the levels."""
        x = as_vector(x)
        bucket, s = max(1, x.size), levels_of(self.bits)
        radius = levels.bucket_norms(x, bucket, "max")
        packed = levels.quantize(x, radius, bucket, s, self.bits, None)
        coded = stream.write(packed, x.size, self.bits, self.entropy)
        return radius.astype("<f4", copy=False).tobytes() + coded

    def decode(self, body: BytesLike, size: int) -> F32:
        """Return the radius times levels."""
        return decode_levels(body, size, max(1, size), self.bits)
