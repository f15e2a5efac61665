"""The loops of `rans_loops` in NumPy, over many lanes at once.

A step of all lanes is some twenty calls of NumPy: for long vectors, which have
hundreds of lanes, where numba is not installed.
"""

import numpy as np
from numpy.typing import NDArray

from .kernels import U8, U16
from .models import CLASS_OF, CLASSES, PRECISION, STRIDE, TOTAL, Models
from .rans_loops import LOWEST
from .symbols import TOKENS

I64 = NDArray[np.int64]


def _steps(size: int, lanes: int, segment: int) -> list[int]:
    """Return how many lanes have an i-th symbol, for each i."""
    return [min(lanes, -(-(size - i) // segment)) for i in range(segment) if i < size]


def contexts(symbols: U8, lanes: int, segment: int) -> tuple[U8, I64]:
    """Return the class of each symbol, and the counts of tokens in each class."""
    classes: U8 = np.empty(symbols.size, np.uint8)
    fast, slow = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
    first = np.arange(lanes, dtype=np.int64) * segment
    for i, n in enumerate(_steps(symbols.size, lanes, segment)):
        at = first[:n] + i
        classes[at] = CLASS_OF[(fast[:n] + slow[:n]) >> 4]
        _advance(fast[:n], slow[:n], symbols[at])
    both = classes.astype(np.int64) * TOKENS + ((symbols.astype(np.int64) + 1) >> 1)
    counts = np.bincount(both, minlength=CLASSES * TOKENS)
    return classes, counts.reshape(CLASSES, TOKENS)


def _advance(fast: I64, slow: I64, symbols: U8) -> None:
    t = ((symbols.astype(np.int64) + 1) >> 1) << 10
    fast += t
    fast >>= 1
    t -= slow
    t >>= 4
    slow += t


def encode(
    symbols: U8,
    rows: NDArray[np.int32],
    segment: int,
    fitted: Models,
    states: I64,
) -> list[tuple[I64, U16]]:
    """Encode backwards; return the lanes that gave a word at each step, and the words.

    `rows` is STRIDE times the set of frequencies of each symbol. See
    `rans_loops.encode`; `states` is changed in place.
    """
    starts, frequencies = fitted.starts().ravel(), fitted.frequencies.ravel()
    first = np.arange(states.size, dtype=np.int64) * segment
    steps = _steps(symbols.size, states.size, segment)
    found = []
    for i in range(len(steps) - 1, -1, -1):
        n = steps[i]
        at = first[:n] + i
        row = rows[at] + symbols[at]
        f, x = frequencies[row], states[:n]
        full = np.flatnonzero(x >= f << (32 - PRECISION))
        found.append((full, (x[full] & 0xFFFF).astype(np.uint16)))
        x[full] >>= 16
        quotient, rest = np.divmod(x, f)
        states[:n] = (quotient << PRECISION) + rest + starts[row]
    found.reverse()
    return found


def decode(
    words: U16,
    begins: I64,
    ends: I64,
    segment: int,
    size: int,
    sets: U8,
    fitted: Models,
    states: I64,
    symbols: U8,
) -> I64 | None:
    """Decode all groups of lanes at once; return how many words each used.

    Group g reads words `begins[g]` to `ends[g]` − 1; None if one has too few. See
    `rans_loops.decode`.
    """
    lookup, lanes = fitted.lookup(), states.size
    starts, frequencies = fitted.starts().ravel(), fitted.frequencies.ravel()
    each = lanes // begins.size
    fast, slow = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)
    first = np.arange(lanes, dtype=np.int64) * segment
    at, padded = begins.copy(), np.append(words, np.uint16(0))
    hungry = np.zeros((begins.size, each), bool)
    for i, n in enumerate(_steps(size, lanes, segment)):
        context = sets[(fast[:n] + slow[:n]) >> 4].astype(np.int64)
        x = states[:n]
        slot = x & (TOTAL - 1)
        s = lookup[(context << PRECISION) + slot]
        row = context * STRIDE + s
        x = frequencies[row] * (x >> PRECISION) + slot - starts[row]
        need = hungry.reshape(-1)
        need[:n] = x < LOWEST
        need[n:] = False
        which = np.flatnonzero(need)
        if which.size:
            rank = np.cumsum(hungry, axis=1) - 1 + at[:, None]
            at += hungry.sum(axis=1)
            if np.any(at > ends):
                return None
            x[which] = (x[which] << 16) | padded[rank.reshape(-1)[which]]
        states[:n] = x
        symbols[first[:n] + i] = s
        _advance(fast[:n], slow[:n], s)
    used: I64 = at - begins
    return used
