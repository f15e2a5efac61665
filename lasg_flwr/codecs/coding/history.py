"""Lanes of symbols, and the class that each symbol's history puts it into."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import models, rans_loops, rans_wide, threads
from .backend import loops_for
from .kernels import U8
from .models import CLASSES, STRIDE
from .symbols import TOKENS

I64 = NDArray[np.int64]

MOST_LANES = 16
"""Logarithm of the largest number of lanes, for 2³² coordinates."""

STEPS = 1 << 16
"""Length of the longest lane."""

_NONZEROS_A_LANE, _WANTED_LANES = 1024, 11
_SAMPLED_FROM, _WINDOWS, _WINDOW = 1 << 18, 64, 1024


class Classified(NamedTuple):
    """Symbols, and the class that each one's history puts it into.

    Attributes
    ----------
    symbols, classes : ndarray, shape (p,), uint8
        See `symbols` and `models`; no classes where contexts do not pay.
    tokens : ndarray, shape (CLASSES, TOKENS), int64
        How often each token occurs in each class.
    lanes : int
        K.
    share : int
        That of positive numbers among those other than zero, in units of 1/255.
    """

    symbols: U8
    classes: U8 | None
    tokens: I64
    lanes: int
    share: int


def lanes_for(size: int, nonzeros: int) -> int:
    """Return K: enough to keep lanes short, too few for their states to weigh.

    Examples
    --------
    >>> lanes_for(785, 100), lanes_for(21_840, 2_500), lanes_for(1 << 31, 10**9)
    (1, 2, 32768)
    """
    wanted = (nonzeros // _NONZEROS_A_LANE).bit_length() - 1
    needed = (-(-size // STEPS) - 1).bit_length()
    return 1 << max(min(wanted, _WANTED_LANES), needed, 0)


def count(values: U8) -> I64:
    """Return how often each symbol occurs, shape (STRIDE,)."""
    loops, parts = loops_for(values.size, 1), threads.blocks(values.size, 1 << 18)
    found = np.zeros((len(parts), 4, STRIDE), np.int64)

    def part(i: int) -> None:
        some = values[slice(*parts[i])]
        if loops is None or loops is rans_loops:
            found[i, 0] = np.bincount(some, minlength=STRIDE)
        else:
            loops.count(some, found[i])

    threads.in_threads(part, len(parts))
    counts: I64 = found.sum(axis=(0, 1))
    return counts


def classify(values: U8, counts: I64) -> Classified:
    """Find the class of each symbol from those before it in its lane.

    `counts` is what `count` makes of the values.
    """
    lanes = lanes_for(values.size, values.size - int(counts[0]))
    share = _share_of_positive(counts)
    if models.most_for(values.size) == 1 or not _contexts_pay(values):
        tokens = np.zeros((CLASSES, TOKENS), np.int64)
        tokens[0, 0] = counts[0]
        tokens[0, 1:] = counts[1 : 2 * TOKENS - 1].reshape(-1, 2).sum(axis=1)
        return Classified(values, None, tokens, lanes, share)
    return Classified(values, *_classified(values, lanes), lanes, share)


def _contexts_pay(values: U8) -> bool:
    """Return whether contexts pay on a part of a long vector; True for short ones."""
    if values.size < _SAMPLED_FROM:
        return True
    first = np.arange(_WINDOWS) * ((values.size - _WINDOW) // (_WINDOWS - 1))
    sample = values[first[:, None] + np.arange(_WINDOW)].ravel()
    return models.pays(_classified(sample, _WINDOWS)[1])


def _classified(values: U8, lanes: int) -> tuple[U8, I64]:
    """Return the class of each symbol, and the counts of tokens in each class."""
    loops, segment = loops_for(values.size, lanes), segment_of(values.size, lanes)
    if loops is None:
        return rans_wide.contexts(values, lanes, segment)
    if loops is rans_loops:
        made, table = [0] * values.size, [[0] * TOKENS for _ in range(CLASSES)]
        of_value, known = models.CLASS_OF.tobytes(), values.tobytes()
        for first in range(0, values.size, segment):
            last = min(first + segment, values.size)
            loops.contexts(known, first, last, of_value, made, table)
        return np.array(made, np.uint8), np.array(table)
    classes: U8 = np.empty(values.size, np.uint8)
    counts = np.zeros((lanes, CLASSES, TOKENS), np.int64)
    signed = values.view(np.int8)

    def lane(number: int) -> None:
        first = number * segment
        last = min(first + segment, values.size)
        loops.contexts(signed, first, last, models.CLASS_OF, classes, counts[number])

    threads.in_threads(lane, lanes, values.size)
    return classes, counts.sum(axis=0)


def segment_of(size: int, lanes: int) -> int:
    """Return the length of a lane."""
    return max(1, -(-size // lanes))


def _share_of_positive(counts: I64) -> int:
    """Return the share of positive numbers among those not zero, times 255."""
    nonzero, positive = int(counts[1:].sum()), int(counts[1::2].sum())
    if positive in (0, nonzero):
        return 255 if positive else 0
    return min(max((510 * positive + nonzero) // (2 * nonzero), 1), 254)
