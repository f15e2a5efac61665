"""Sums of vectors without rounding: a float64 vector, and what it rounds away.

A sum is Σ_i c_i of components c_0, c_1, ..., from large to small. The rounding error of
a float64 addition is a float64 number itself (Knuth's TwoSum), so that nothing need be
lost: 10^20 comes and goes, and what was there before is there again. Mostly c_0 is
alone, as sums of float32 vectors of like size need no more.
"""

import numpy as np

from ..vectors import F32, F64

BLOCK = 1 << 14
"""Elements that are added at once: all temporaries stay in the cache."""

MOST = 8
"""Components at most; 424 bits hold any sum of float32 times whole numbers."""

_EXACT = float(2**29)
"""Whole numbers up to this one times a float32 are float64 numbers."""


def add_exactly(parts: list[F64], x: F32 | F64, weight: float = 1.0) -> None:
    """Add w·x to a sum, in place.

    Parameters
    ----------
    parts : list of ndarray, shape (p,), float64
        The components, large ones first; grows and shrinks as it must.
    x : ndarray, shape (p,)
        What to add: float32 where there is a weight.
    weight : float (default: 1.0)
        w; its products are exact where it is a whole number below 2^53.

    Examples
    --------
    >>> total = [np.array([0.25])]
    >>> for term in (1e20, 1.0, -1e20):
    ...     add_exactly(total, np.array([term]))
    >>> [part.tolist() for part in total]
    [[1.25]]
    """
    if weight == 1.0:
        _add(parts, x)
    elif weight <= _EXACT:
        _add(parts, np.multiply(x, weight, dtype=np.float64))
    else:  # in two parts, each of few enough bits
        low = weight % _EXACT
        _add(parts, np.multiply(x, weight - low, dtype=np.float64))
        _add(parts, np.multiply(x, low, dtype=np.float64))


def _add(parts: list[F64], x: F32 | F64) -> None:
    carried: F64 | None = None
    for start in range(0, x.size, BLOCK):
        at = slice(start, start + BLOCK)
        block = [part[at] for part in parts]
        used = len(block)
        while used > 1 and not block[used - 1].any():
            used -= 1
        left = _grow(block[:used], x[at].astype(np.float64))
        if not left.any():
            continue
        if used == len(block) < MOST:
            carried = np.zeros(x.size) if carried is None else carried
            block.append(carried[at])
        block[min(used, len(block) - 1)][:] += left
    if carried is not None:
        parts.append(carried)
    while len(parts) > 1 and not parts[-1].any():
        parts.pop()


def _grow(parts: list[F64], x: F64) -> F64:
    """Add x to each component's block in turn; return what the last one rounds away.

    From small to large (Shewchuk's Grow-Expansion).
    """
    left = _passed(parts, x)
    for _ in parts[1:]:  # into components that cancellation has emptied
        left = _passed(parts, left)
        if not left.any():
            break
    return left


def _passed(parts: list[F64], carry: F64) -> F64:
    errors = []
    for part in reversed(parts):
        carry, error = _two_sum(carry, part)
        errors.append(error)
    parts[0][:] = carry
    for part, error in zip(parts[1:], errors[:0:-1], strict=True):
        part[:] = error
    return errors[0]


def _two_sum(a: F64, b: F64) -> tuple[F64, F64]:
    """Return fl(a + b) and a + b − fl(a + b)."""
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)
