"""Sign: one bit a coordinate and one scale."""

import struct
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import WireError
from ..vectors import F32
from .base import Codec
from .coding import entropy as stream
from .coding import levels
from .coding.entropy import BytesLike
from .coding.inputs import as_vector

_SCALE = struct.Struct("<f")


@dataclass(frozen=True)
class Sign(Codec):
    """C(x) = (‖x‖₁/p)·sign(x), with sign(0) = 1.

    ‖C(x) − x‖² = (1 − ‖x‖₁²/(p‖x‖₂²))‖x‖² (Karimireddy et al., 2019), so α = 1/p,
    reached by vectors with one coordinate other than 0. Biased.

    Body: the scale as little-endian float32, then the level stream of p codes of one
    bit, 1 where x is negative.

    Parameters
    ----------
    entropy : {"zstd", "range", "raw"} (default: "zstd")
        How a sender codes the signs; ``range`` needs the extra ``entropy``.

    Examples
    --------
    >>> Sign().decode(Sign().encode(np.float32([-3, 1, 2])), 3).tolist()
    [-2.0, 2.0, 2.0]
    """

    name: ClassVar[str] = "sign"
    tag: ClassVar[int] = 5
    always_finite: ClassVar[bool] = True

    entropy: str = "zstd"

    def __post_init__(self) -> None:
        stream.check_choice(self.entropy)

    def alpha(self, size: int) -> float:
        """Return 1/p."""
        return 1 / max(1, size)

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        """Return the scale and the signs."""
        x = as_vector(x)
        magnitudes = np.abs(x).astype(np.float64).reshape(1, -1)
        scale = levels.row_sums(magnitudes)[0] / max(1, x.size)
        levels.check_finite(scale)
        packed = np.packbits(x < 0, bitorder="little")
        return _SCALE.pack(scale) + stream.write(packed, x.size, 1, self.entropy)

    def decode(self, body: BytesLike, size: int) -> F32:
        """Return plus or minus the scale."""
        if len(body) < _SCALE.size:
            raise WireError(f"a sign body of {len(body)} bytes has no scale")
        scale = np.frombuffer(body, "<f4", 1)[0]
        if not (np.isfinite(scale) and scale >= 0):
            raise WireError(f"the scale {scale} of a sign body is not a number >= 0")
        packed = stream.read(memoryview(body)[_SCALE.size :], size, 1)
        bits = np.unpackbits(packed, count=size, bitorder="little")
        return np.array([scale, -scale], np.float32)[bits]
