"""QSGD: stochastic, unbiased quantization to s levels of a bucket's norm."""

import struct
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from ..checks import whole
from ..errors import WireError
from ..vectors import F32
from .base import Codec
from .coding import entropy as stream
from .coding import levels
from .coding.entropy import BytesLike
from .coding.inputs import as_vector
from .coding.noise import draw_key

_PARAMETERS = struct.Struct("<BBI")
NORMS = ("max", "l2")


@dataclass(frozen=True)
class QSGD(Codec):
    """Random rounding of |x_i| to multiples of ‖x_b‖/s, s = 2^{bits−1} − 1.

    Q(x)_i = ‖x_b‖ · sign(x_i) · l_i / s, where l_i is s|x_i|/‖x_b‖ rounded up or down
    so that E[Q(x)] = x (Alistarh et al., 2017). A level and its sign fit `bits` bits.
    The variance constant for buckets of length p is

    - max norm: ω = (√(1 + (p − 1)/s²) − 1)/2, reached where one coordinate is the norm
      and s|x_i|/‖x‖ = √(a² + a) − a, a = s²/(p − 1), for all others;
    - ℓ2 norm: ω = √p/s − 1 for 2s <= √p (or s = 1), reached by constant vectors. Above
      that this is too small; ω = p/4s² holds, as a coordinate's variance is at most a
      quarter of a level.

    Body: ⌈p/bucket⌉ norms as little-endian float32, then the level stream of p codes
    s + l_i of `bits` bits, see `lasg_flwr.codecs.coding.entropy`.

    Parameters
    ----------
    bits : int (default: 4)
        Bits a coordinate before entropy coding, 2 to 16.
    bucket : int (default: 512)
        Coordinates that share a norm; 0: all.
    norm : {"max", "l2"} (default: "max")
        Norm of a bucket.
    entropy : {"zstd", "range", "raw"} (default: "zstd")
        How a sender codes the levels; ``range`` needs the extra ``entropy``.

    Examples
    --------
    >>> codec = QSGD(bits=4)
    >>> body = codec.encode(np.float32([-7, 0, 2]), np.random.default_rng(0))
    >>> codec.decode(body, 3).tolist()
    [-7.0, 0.0, 2.0]
    """

    name: ClassVar[str] = "qsgd"
    tag: ClassVar[int] = 3
    stochastic: ClassVar[bool] = True
    always_finite: ClassVar[bool] = True

    bits: int = 4
    bucket: int = 512
    norm: str = "max"
    entropy: str = "zstd"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", checked_bits(self.bits))
        hint = "; 0 is a single norm"
        bucket = whole("bucket", self.bucket, most=(1 << 32) - 1, hint=hint)
        object.__setattr__(self, "bucket", bucket)
        if self.norm not in NORMS:
            raise ValueError(f"norm must be one of {NORMS}, got {self.norm!r}")
        stream.check_choice(self.entropy)

    @property
    def levels(self) -> int:
        """Levels s on each side of 0."""
        return levels_of(self.bits)

    @property
    def parameters(self) -> bytes:
        """Bits, norm (0 max, 1 ℓ2), and bucket as little-endian uint32."""
        return _PARAMETERS.pack(self.bits, NORMS.index(self.norm), self.bucket)

    def omega(self, size: int) -> float:
        """Return ω of the longest bucket."""
        p, s = self._bucket(size), self.levels
        if p <= 1:
            return 0.0
        if self.norm == "max":
            return (sqrt(1 + (p - 1) / s**2) - 1) / 2
        return sqrt(p) / s - 1 if s == 1 or 2 * s <= sqrt(p) else p / (4 * s**2)

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        """Return norms and levels."""
        x = as_vector(x)
        bucket = self._bucket(x.size)
        norms = levels.bucket_norms(x, bucket, self.norm)
        key = draw_key(rng)
        packed = levels.quantize(x, norms, bucket, self.levels, self.bits, key)
        coded = stream.write(packed, x.size, self.bits, self.entropy)
        return b"".join((norms.astype("<f4", copy=False).tobytes(), coded))

    def decode(self, body: BytesLike, size: int) -> F32:
        """Return norms times levels."""
        return decode_levels(body, size, self._bucket(size), self.bits)

    def _bucket(self, size: int) -> int:
        return max(1, min(self.bucket or size, size))


def checked_bits(bits: int) -> int:
    """Return `bits`; ValueError unless it is an integer from 2 to 16."""
    return whole("bits", bits, least=2, most=16)


def levels_of(bits: int) -> int:
    """Return s = 2^{bits−1} − 1.

    Examples
    --------
    >>> levels_of(2), levels_of(4)
    (1, 7)
    """
    return int((1 << (bits - 1)) - 1)


def decode_levels(body: BytesLike, size: int, bucket: int, bits: int) -> F32:
    """Decode norms and a level stream.

    Raises
    ------
    WireError
        If the body is not of this form, or a norm is negative or not finite.
    """
    count = -(-size // bucket)
    if len(body) < 4 * count:
        raise WireError(
            f"a body of {len(body)} bytes does not hold the norms of {count} buckets"
        )
    norms = np.frombuffer(body, "<f4", count).astype(np.float32, copy=False)
    if not np.all(np.isfinite(norms) & (norms >= 0)):
        raise WireError("a bucket's norm is negative or not finite")
    packed = stream.read(memoryview(body)[4 * count :], size, bits)
    return levels.dequantize(packed, size, norms, bucket, levels_of(bits), bits)
