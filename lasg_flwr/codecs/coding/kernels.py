"""The inner loops in NumPy; `lasg_flwr.codecs.coding.fast` has them compiled.

Both do the same floating-point operations in the same order, so that their results
are equal to the bit. Codes are packed least significant bit first: code i of w bits
takes bits i·w to (i + 1)·w − 1 of the little-endian bit string.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...vectors import F32
from .noise import hashes
from .symbols import DIRECT, tokens_of

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]

HALF = 1 << 31
MAGNITUDE = 0x7FFFFFFF
TWO_32 = 4294967296.0
MOST_FLOAT = float(np.finfo(np.float32).max)
SUMS = 32
BINS, BIN_SHIFT = 1 << 16, 15
"""Of `histogram`: exponent and eight bits of mantissa."""


def max_norms(x: F32, bucket: int, out: F32) -> None:
    """Write max |x_i| of each bucket to `out`; NaN and infinity stay visible."""
    full = x.size // bucket
    table = x[: full * bucket].reshape(full, bucket)
    if full:
        np.maximum(table.max(axis=1), -table.min(axis=1), out=out[:full])
    tail = x[full * bucket :]
    if tail.size:
        out[full] = max(tail.max(), -tail.min())
    np.abs(out, out=out)  # not -0.0


def _per_coordinate(
    values: NDArray[np.float64], start: int, count: int, bucket: int
) -> NDArray[np.float64]:
    """Return the value of each coordinate's bucket."""
    first, last = start // bucket, (start + count - 1) // bucket
    if first == last:
        return values[first : last + 1]
    skip = start - first * bucket
    return np.repeat(values[first : last + 1], bucket)[skip : skip + count]


def quantize(
    x: F32,
    start: int,
    stop: int,
    bucket: int,
    norms: F32,
    levels: int,
    key: int | None,
    codes: U16,
) -> None:
    """Write the codes of coordinates `start` to `stop` − 1.

    y = s|x_i| / norm in units of 2⁻³², a random number (or one half) is added, and
    what remains above the binary point is the level: l = ⌊y + u⌋, code s + sign·l.
    """
    count = stop - start
    with np.errstate(divide="ignore"):
        scales = np.float64(levels) / norms.astype(np.float64) * TWO_32
    scales[norms == 0] = 0.0
    part = x[start:stop]
    y = np.abs(part).astype(np.float64)
    y *= _per_coordinate(scales, start, count, bucket)
    level = y.astype(np.int64)
    if key is None:
        level += HALF
    else:
        level += (hashes(key, start, count) >> np.uint64(32)).view(np.int64)
    level >>= 32
    np.negative(level, out=level, where=part < 0)
    level += levels
    codes[:count] = level


def dequantize(
    codes: U16, start: int, stop: int, bucket: int, norms: F32, levels: int, out: F32
) -> bool:
    """Write norm·l/s of coordinates `start` to `stop` − 1; False if a code is bad."""
    count = stop - start
    if codes[:count].max(initial=0) > 2 * levels:
        return False
    level = codes[:count].astype(np.float64)
    level -= levels
    level *= _per_coordinate(norms.astype(np.float64), start, count, bucket)
    level /= levels
    out[start:stop] = level
    return True


def pack(codes: U16, width: int, out: U8) -> None:
    """Pack codes of `width` <= 16 bits; `out` holds ⌈n·width/8⌉ bytes."""
    if width == 16:
        out[:] = codes.astype("<u2").view(np.uint8)
    elif width == 8:
        out[:] = codes
    elif width in (1, 2, 4):
        per_byte = 8 // width
        padded = np.zeros(out.size * per_byte, np.uint8)
        padded[: codes.size] = codes
        out[:] = padded[::per_byte]
        for i in range(1, per_byte):
            out |= padded[i::per_byte] << np.uint8(i * width)
    else:
        out[:] = pack_wide(codes, width)


def pack_wide(codes: NDArray[np.unsignedinteger], width: int) -> U8:
    """Pack codes of any width up to 32 bits, by way of single bits."""
    words = codes.astype("<u4").view(np.uint8).reshape(-1, 4)
    bits = np.unpackbits(words, axis=1, count=width, bitorder="little")
    return np.packbits(bits, bitorder="little")


def unpack(packed: U8, width: int, codes: U16) -> None:
    """Undo `pack` for ``codes.size`` codes."""
    if width == 16:
        codes[:] = packed.view("<u2")
    elif width == 8:
        codes[:] = packed
    elif width in (1, 2, 4):
        per_byte, mask = 8 // width, np.uint8((1 << width) - 1)
        for i in range(per_byte):
            lane = codes[i::per_byte]
            lane[:] = (packed[: lane.size] >> np.uint8(i * width)) & mask
    else:
        codes[:] = unpack_wide(packed, width, codes.size)


def unpack_wide(packed: U8, width: int, count: int) -> NDArray[np.uint64]:
    """Undo `pack_wide`: read a window of 64 bits at the byte where a code begins."""
    padded = np.zeros(packed.size + 8, np.uint8)
    padded[: packed.size] = packed
    windows: NDArray[np.uint64] = np.ndarray(
        (packed.size + 1,), "<u8", padded, strides=(1,)
    )
    first = np.arange(count, dtype=np.int64) * width
    shifted = windows[first >> 3] >> (first & 7).astype(np.uint64)
    codes: NDArray[np.uint64] = shifted & np.uint64((1 << width) - 1)
    return codes


def select(x: F32, k: int) -> NDArray[np.int64]:
    """Return the indices of the k >= 1 largest magnitudes, increasing; see `topk`."""
    bits = x.view(np.uint32) & np.uint32(MAGNITUDE)
    return largest(bits, k)


def largest(bits: NDArray[np.uint32], k: int) -> NDArray[np.int64]:
    """Return where the k largest of `bits` are; of equals the lower index wins."""
    if k >= bits.size:
        return np.arange(bits.size, dtype=np.int64)
    limit = np.partition(bits, bits.size - k)[bits.size - k]
    chosen = bits > limit
    ties = np.flatnonzero(bits == limit)
    chosen[ties[: k - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)


def histogram(x: F32, counts: NDArray[np.int64]) -> None:
    """Add up how often each sign-free upper half of a magnitude's bits occurs."""
    upper = (x.view(np.uint32) & np.uint32(MAGNITUDE)) >> np.uint32(BIN_SHIFT)
    counts += np.bincount(upper.astype(np.int64), minlength=BINS)


def deadzone(
    x: F32, inverse: float, rounding: float, values: NDArray[np.float64], symbols: U8
) -> tuple[NDArray[np.int32], float, float]:
    """Write the symbols of m = ⌊|x|/Δ + r⌋ < 2²⁷.

    `values` holds what each m below 16 is decoded to, then Δ, then the offset of all
    larger m. Returns the m of long symbols, ‖|x| − decoded‖² and ‖x‖².
    """
    wide = np.abs(x).astype(np.float64)
    level = (wide * inverse + rounding).astype(np.int32)
    large = np.flatnonzero(level >= DIRECT)
    direct = np.minimum(level, DIRECT - 1)
    decoded = values[direct]
    symbols[:] = 2 * direct - ((direct > 0) & (x > 0))
    long = level[large]
    if large.size:
        decoded[large] = long_values(long, values[DIRECT], values[DIRECT + 1])
        symbols[large] = 2 * tokens_of(long.astype(np.int64)) - (x[large] > 0)
    rest = wide - decoded
    return long, _sum(rest * rest), _sum(wide * wide)


def long_values(
    m: NDArray[Any], step: float, offset: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return float32((m + offset)·Δ) in float64."""
    exact = (m.astype(np.float64) + offset) * step
    return np.minimum(exact, MOST_FLOAT).astype(np.float32).astype(np.float64)


def _sum(values: NDArray[np.float64]) -> float:
    """Return the sum, in 32 sums of every 32nd value: an order to rely on."""
    padded = np.zeros(-(-values.size // SUMS) * SUMS)
    padded[: values.size] = values
    sums = np.cumsum(padded.reshape(-1, SUMS), axis=0)[-1]
    return float(np.cumsum(sums)[-1])


def look_up(symbols: U8, values: F32, out: F32) -> int:
    """Write the value of each symbol; return the largest symbol."""
    np.take(values, symbols, out=out, mode="clip")
    return int(symbols.max(initial=0))
