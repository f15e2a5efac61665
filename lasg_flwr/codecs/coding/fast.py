"""The inner loops of `kernels`, compiled by numba (extra ``fast``).

The same operations in the same order: neither fast maths nor fused multiply-adds, so
the results are equal to NumPy's to the bit. The loops release the GIL; threads are
started by the caller, as numba's own pool must not be used from two threads at once.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from ...vectors import F32
from . import kernels
from .kernels import HALF, MAGNITUDE, TWO_32, U8, U16
from .noise import GOLDEN, MIX_1, MIX_2
from .threads import blocks, in_threads

F = TypeVar("F", bound=Callable[..., object])
_HALF = np.uint64(HALF)
_GOLDEN, _MIX_1, _MIX_2 = np.uint64(GOLDEN), np.uint64(MIX_1), np.uint64(MIX_2)
_S27, _S30, _S31, _S32 = (np.uint64(n) for n in (27, 30, 31, 32))
_MAGNITUDE = np.uint32(MAGNITUDE)
_BINS, _BIN_SHIFT = 1 << 15, np.uint32(16)


def compiled(function: F) -> F:
    """Compile a function, once for a machine where there is room for a cache.

    What is in the cache may be damaged, as by a full disk or a crash: then the function
    is compiled for this process alone.
    """
    try:
        kept = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # nowhere to write the cache
        return cast(F, numba.njit(nogil=True)(function))
    alone: list[F] = []

    def call(*arguments: Any) -> object:
        if alone:
            return alone[0](*arguments)
        try:
            return kept(*arguments)
        except Exception:  # whatever reading a damaged cache raises
            alone.append(numba.njit(nogil=True)(function))
            return alone[0](*arguments)

    return cast(F, call)


@compiled
def _max_norms(bits: NDArray[np.uint32], bucket: int, out: NDArray[np.uint32]) -> None:
    for b in range(out.size):
        top: Any = np.uint32(0)
        for v in bits[b * bucket : min((b + 1) * bucket, bits.size)]:
            top = max(top, v & _MAGNITUDE)
        out[b] = top


@compiled
def _quantize(
    x: F32,
    start: int,
    stop: int,
    bucket: int,
    norms: F32,
    levels: int,
    key: np.uint64,
    noisy: bool,
    codes: U16,
) -> None:
    i = start
    while i < stop:
        end = min((i // bucket + 1) * bucket, stop)
        norm = np.float64(norms[i // bucket])
        scale = np.float64(levels) / norm * TWO_32 if norm > 0.0 else 0.0
        part, out = x[i:end], codes[i - start : end - start]
        base = np.uint64(i + 1) * _GOLDEN + key
        for j in range(part.size):  # from 0, so that the loop is vectorised
            y = np.int64(np.float64(abs(part[j])) * scale)
            z = np.uint64(j) * _GOLDEN + base
            z = (z ^ (z >> _S30)) * _MIX_1
            z = (z ^ (z >> _S27)) * _MIX_2
            z = (z ^ (z >> _S31)) >> _S32
            level = (y + np.int64(z if noisy else _HALF)) >> 32
            out[j] = np.uint16(levels - level if part[j] < 0 else levels + level)
        i = end


@compiled
def _dequantize(
    codes: U16, start: int, stop: int, bucket: int, norms: F32, levels: int, out: F32
) -> bool:
    i = start
    top: Any = 0
    while i < stop:
        end = min((i // bucket + 1) * bucket, stop)
        norm = np.float64(norms[i // bucket])
        part, values = codes[i - start : end - start], out[i:end]
        for j in range(part.size):
            code = np.int32(part[j])
            top = max(top, code)
            values[j] = np.float32(np.float64(code - levels) * norm / levels)
        i = end
    good: bool = top <= 2 * levels
    return good


@compiled
def _pack(codes: U16, width: int, out: U8) -> None:
    n = codes.size
    if width == 4:
        for i in range(n // 2):
            out[i] = np.uint8(codes[2 * i] | (codes[2 * i + 1] << 4))
        if n % 2:
            out[n // 2] = np.uint8(codes[n - 1])
    elif width == 8:
        for i in range(n):
            out[i] = np.uint8(codes[i])
    else:
        word: Any = 0
        held, at = 0, 0
        for i in range(n):
            word |= np.int64(codes[i]) << held
            held += width
            while held >= 8:
                out[at] = np.uint8(word & 255)
                word >>= 8
                held -= 8
                at += 1
        if held:
            out[at] = np.uint8(word)


@compiled
def _unpack(packed: U8, width: int, codes: U16) -> None:
    n = codes.size
    if width == 4:
        for i in range(n // 2):
            codes[2 * i] = packed[i] & 15
            codes[2 * i + 1] = packed[i] >> 4
        if n % 2:
            codes[n - 1] = packed[n // 2] & 15
    elif width == 8:
        for i in range(n):
            codes[i] = packed[i]
    else:
        word: Any = 0
        held, at, mask = 0, 0, (1 << width) - 1
        for i in range(n):
            while held < width:
                word |= np.int64(packed[at]) << held
                held += 8
                at += 1
            codes[i] = np.uint16(word & mask)
            word >>= width
            held -= width


@compiled
def _histogram(bits: NDArray[np.uint32], counts: NDArray[np.int64]) -> None:
    for v in bits:
        counts[(v & _MAGNITUDE) >> _BIN_SHIFT] += 1


@compiled
def _at_least(
    bits: NDArray[np.uint32], start: int, limit: np.uint32, out: NDArray[np.int64]
) -> None:
    at = 0
    for i in range(bits.size):
        if (bits[i] & _MAGNITUDE) >= limit:
            out[at] = start + i
            at += 1


def max_norms(x: F32, bucket: int, out: F32) -> None:
    """See `kernels.max_norms`."""
    _max_norms(x.view(np.uint32), bucket, out.view(np.uint32))


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
    """See `kernels.quantize`."""
    noisy = key is not None
    _quantize(x, start, stop, bucket, norms, levels, np.uint64(key or 0), noisy, codes)


def dequantize(
    codes: U16, start: int, stop: int, bucket: int, norms: F32, levels: int, out: F32
) -> bool:
    """See `kernels.dequantize`."""
    return bool(_dequantize(codes, start, stop, bucket, norms, levels, out))


def pack(codes: U16, width: int, out: U8) -> None:
    """See `kernels.pack`."""
    _pack(codes, width, out)


def unpack(packed: U8, width: int, codes: U16) -> None:
    """See `kernels.unpack`."""
    _unpack(packed, width, codes)


def select(x: F32, k: int) -> NDArray[np.int64]:
    """See `kernels.select`; a histogram of the magnitudes' upper bits cuts it short.

    Two passes over memory; then exact selection among k plus one bin of candidates.
    """
    bits = x.view(np.uint32)
    parts = blocks(x.size, 1 << 20)
    counts = np.zeros((len(parts), _BINS), np.int64)
    in_threads(
        lambda i: _histogram(bits[parts[i][0] : parts[i][1]], counts[i]), len(parts)
    )
    above = np.cumsum(counts.sum(axis=0)[::-1])[::-1]
    lowest = int(np.flatnonzero(above >= k)[-1])
    ends = np.cumsum(counts[:, lowest:].sum(axis=1))
    found = np.empty(int(ends[-1]), np.int64)
    limit = np.uint32(lowest << int(_BIN_SHIFT))

    def collect(i: int) -> None:
        start, stop = parts[i]
        out = found[ends[i - 1] if i else 0 : ends[i]]
        _at_least(bits[start:stop], start, limit, out)

    in_threads(collect, len(parts))
    near = bits[found] & np.uint32(MAGNITUDE)
    chosen: NDArray[np.int64] = found[kernels.largest(near, k)]
    return chosen


@compiled
def add_weighted(total: NDArray[np.float64], x: F32, weight: float) -> None:
    """Add weight·x; see `backend.addition_for`."""
    for i in range(total.size):
        total[i] += np.float64(x[i]) * weight
