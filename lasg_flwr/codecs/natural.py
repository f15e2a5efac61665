"""Natural: powers of two."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import WireError
from ..vectors import F32
from .base import Codec
from .coding import entropy as stream
from .coding import levels, threads
from .coding.entropy import BytesLike
from .coding.inputs import as_vector
from .coding.kernels import MAGNITUDE
from .coding.noise import draw_key, hashes

_FRACTION = 23
_INFINITE = np.uint32(0x7F800000)
_VALUES = (np.arange(256, dtype=np.uint32) << np.uint32(_FRACTION)).view(np.float32)
_VALUES[255] = np.finfo(np.float32).max


@dataclass(frozen=True)
class Natural(Codec):
    """Random rounding of |x_i| to the power of two below or above, unbiased.

    ω = 1/8 (Horváth et al., 2019), reached where all |x_i| = 4/3·2^e. Adding 23 random
    bits to a float32 and dropping its 23 fraction bits does exactly this. Two limits of
    float32 show: below 2^−126 the neighbours are 0 and 2^−126 (unbiased, but ω is
    larger), and 2^128 is decoded as the largest float32.

    Body: length of the first level stream as little-endian uint32; the stream of p
    codes of 8 bits, 0 for 0 and e + 127 for 2^e; the stream of p signs of one bit.

    Parameters
    ----------
    entropy : {"zstd", "range", "raw"} (default: "zstd")
        How a sender codes the exponents; ``range`` needs the extra ``entropy``.

    Examples
    --------
    >>> body = Natural().encode(np.float32([-4, 0.5, 0]), np.random.default_rng(0))
    >>> Natural().decode(body, 3).tolist()
    [-4.0, 0.5, 0.0]
    """

    name: ClassVar[str] = "natural"
    tag: ClassVar[int] = 6
    stochastic: ClassVar[bool] = True
    always_finite: ClassVar[bool] = True

    entropy: str = "zstd"

    def __post_init__(self) -> None:
        stream.check_choice(self.entropy)

    def omega(self, size: int) -> float:
        """Return 1/8."""
        return 0.125

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        """Return exponents and signs."""
        x = as_vector(x)
        key, word = draw_key(rng), x.view(np.uint32)
        exponents = np.empty(x.size, np.uint8)
        signs = np.empty(levels.packed_bytes(x.size, 1), np.uint8)

        def block(start: int, stop: int) -> None:
            bits = word[start:stop] & np.uint32(MAGNITUDE)
            if bits.max(initial=0) >= _INFINITE:
                levels.check_finite(x[start:stop])
            noise = hashes(key, start, stop - start) >> np.uint64(64 - _FRACTION)
            bits += noise.astype(np.uint32)
            bits >>= np.uint32(_FRACTION)
            exponents[start:stop] = bits
            negative = np.packbits((x[start:stop] < 0) & (bits > 0), bitorder="little")
            signs[start // 8 : start // 8 + negative.size] = negative

        threads.over_blocks(block, x.size)
        coded = stream.write(exponents, x.size, 8, self.entropy)
        length = len(coded).to_bytes(4, "little")
        return length + coded + stream.write(signs, x.size, 1, "zstd")

    def decode(self, body: BytesLike, size: int) -> F32:
        """Return powers of two."""
        stop = 4 + int.from_bytes(body[:4], "little")
        if len(body) < stop:
            raise WireError(f"a natural body of {len(body)} bytes was cut short")
        view = memoryview(body)
        exponents = stream.read(view[4:stop], size, 8)
        signs = stream.read(view[stop:], size, 1)
        x = np.empty(size, np.float32)
        word = x.view(np.uint32)

        def block(start: int, stop: int) -> None:
            _VALUES.take(exponents[start:stop], out=x[start:stop], mode="clip")
            some = signs[start // 8 : (stop + 7) // 8]
            bits = np.unpackbits(some, count=stop - start, bitorder="little")
            word[start:stop] |= bits.astype(np.uint32) << np.uint32(31)

        threads.over_blocks(block, size)
        return x
