"""The loops of `rans_loops`, compiled by numba (extra ``fast``).

Those that matter most are written out with unsigned numbers of the right width: numba
then leaves out what it needs for negative indices, and they take half the time.
"""

import numpy as np
from numpy.typing import NDArray

from . import rans_loops
from .fast import compiled
from .kernels import U8, U16
from .models import PRECISION, STRIDE, TOTAL

U32 = NDArray[np.uint32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
_ONE, _STRIDE = np.uint64(1), np.uint64(STRIDE)
_TOTAL, _MASK = np.uint32(TOTAL), np.uint32(TOTAL - 1)
_P, _7, _16, _19 = (np.uint32(n) for n in (PRECISION, 7, 16, 19))
_P64, _LIMIT = np.uint64(PRECISION), np.uint64(32 - PRECISION)
_LOWEST, _SYMBOL = np.uint32(rans_loops.LOWEST), np.uint32(127)

contexts = compiled(rans_loops.contexts)
count = compiled(rans_loops.count)


@compiled
def _encode(
    symbols: U8,
    contexts: U8,
    many: bool,
    segment: int,
    frequencies: U32,
    starts: U32,
    inverses: F64,
    states: U32,
    words: U16,
) -> int:
    at, length = np.uint64(words.size), np.uint64(segment)
    n = symbols.size
    for i in range(min(segment, n) - 1, -1, -1):
        active = min(states.size, (n - i + segment - 1) // segment)
        j = np.uint64(i) + np.uint64(active) * length
        lane = np.uint64(active)
        for _ in range(active):
            j -= length
            lane -= _ONE
            row = np.uint64(symbols[j])
            if many:
                row += np.uint64(contexts[j]) * _STRIDE
            f, x = frequencies[row], states[lane]
            if np.uint64(x) >= np.uint64(f) << _LIMIT:
                at -= _ONE
                words[at] = np.uint16(x)
                x >>= _16
            quotient = np.uint32(np.int64(np.float64(x) * inverses[row]))
            states[lane] = np.uint32(x + starts[row] + quotient * (_TOTAL - f))
    return int(at)


@compiled
def _decode(
    words: U16,
    segment: int,
    size: int,
    many: bool,
    sets: U8,
    slots: U32,
    states: U32,
    fast: I64,
    slow: I64,
    symbols: U8,
) -> int:
    used, there, length = np.uint64(0), np.uint64(words.size), np.uint64(segment)
    context = np.uint64(0)
    for i in range(min(segment, size)):
        active = min(states.size, (size - i + segment - 1) // segment)
        j = np.uint64(i)
        for k in range(active):
            lane = np.uint64(k)
            if many:
                v = np.uint64((fast[lane] + slow[lane]) >> 4)
                context = np.uint64(sets[v]) << _P64
            x = states[lane]
            entry = slots[context + np.uint64(x & _MASK)]
            f = ((entry >> _7) & _MASK) + np.uint32(1)
            x = np.uint32(f * (x >> _P) + (entry >> _19))
            if x < _LOWEST:
                if used >= there:
                    return -1
                x = np.uint32((x << _16) | np.uint32(words[used]))
                used += _ONE
            states[lane] = x
            s = entry & _SYMBOL
            symbols[j] = np.uint8(s)
            j += length
            if many:
                t = np.int64((s + np.uint32(1)) >> np.uint32(1)) << 10
                fast[lane] = (fast[lane] + t) >> 1
                slow[lane] += (t - slow[lane]) >> 4
    return int(used)


def encode(
    symbols: U8,
    contexts: U8,
    many: bool,
    segment: int,
    frequencies: I64,
    starts: I64,
    inverses: F64,
    states: I64,
    words: U16,
) -> int:
    """See `rans_loops.encode`."""
    narrow, f = states.astype(np.uint32), frequencies.astype(np.uint32)
    begins = starts.astype(np.uint32)
    at = _encode(symbols, contexts, many, segment, f, begins, inverses, narrow, words)
    states[:] = narrow
    return int(at)


def decode(
    words: U16,
    segment: int,
    size: int,
    many: bool,
    sets: U8,
    slots: U32,
    states: I64,
    fast: I64,
    slow: I64,
    symbols: U8,
) -> int:
    """See `rans_loops.decode`."""
    narrow = states.astype(np.uint32)
    used = _decode(words, segment, size, many, sets, slots, narrow, fast, slow, symbols)
    states[:] = narrow
    return int(used)
