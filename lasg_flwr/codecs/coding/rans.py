"""Interleaved range coding (rANS) of symbols, with contexts of their own history.

The vector is cut into K = 2^k lanes of ⌈p/K⌉ neighbouring coordinates, each with a
state of 32 bits and contexts of its own (`models`); up to 32 lanes form a group that
shares one stream of 16-bit words. So a vector can be worked off by many lanes at once,
and by threads, with the same bytes on any machine. Duda (2013), Giesen (2014).

| bytes | content |
|---|---|
| 1 | k, at most 11 |
| 1 | share of positive numbers among those other than zero, in units of 1/255 |
| … | table of frequencies, see `models` |
| 4·(groups − 1) | words in each group but the last |
| 4·K | states of the lanes |
| 2 each | words of each group |
| … | bits that long symbols leave out, to the end, see `symbols` |

The number of words in the last group follows from the length, and every lane must end
in the state it began with, so that damage is noticed.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import WireError
from . import models, rans_loops, rans_wide, threads
from .backend import loops_for
from .kernels import U8, U16
from .models import CLASSES, STRIDE, Models
from .rans_loops import LOWEST
from .symbols import TOKENS

I64 = NDArray[np.int64]

GROUP = 32
_MOST_LANES = 11
_NONZEROS_A_LANE = 1024
_STEPS = 1 << 16
_CONTEXTS_FROM = 1024
_HEAD = 2


class Classified(NamedTuple):
    """Symbols, and the class that each one's history puts it into.

    Attributes
    ----------
    symbols, classes : ndarray, shape (p,), uint8
        See `symbols` and `models`.
    counts : ndarray, shape (CLASSES, TOKENS), int64
        How often each token occurs in each class.
    lanes : int
        K.
    """

    symbols: U8
    classes: U8
    counts: I64
    lanes: int


def lanes_for(size: int, nonzeros: int) -> int:
    """Return K: enough to keep lanes short, too few for their states to weigh.

    Examples
    --------
    >>> lanes_for(785, 100), lanes_for(21_840, 2_500), lanes_for(11_000_000, 10**6)
    (1, 2, 512)
    """
    wanted = (nonzeros // _NONZEROS_A_LANE).bit_length() - 1
    needed = (-(-size // _STEPS) - 1).bit_length()
    return 1 << min(max(wanted, needed, 0), _MOST_LANES)


def classify(values: U8, nonzeros: int) -> Classified:
    """Find the class of each symbol from those before it in its lane."""
    lanes = lanes_for(values.size, nonzeros)
    segment = segment_of(values.size, lanes)
    loops = loops_for(values.size, lanes)
    if values.size < _CONTEXTS_FROM:
        counts = np.zeros((CLASSES, TOKENS), np.int64)
        counts[0] = np.bincount((values.astype(np.int64) + 1) >> 1, minlength=TOKENS)
        return Classified(values, np.zeros_like(values), counts, lanes)
    if loops is None:
        return Classified(values, *rans_wide.contexts(values, lanes, segment), lanes)
    classes, counts = _classified(loops, values, lanes, segment)
    return Classified(values, classes, counts, lanes)


def _classified(loops: Any, values: U8, lanes: int, segment: int) -> tuple[U8, I64]:
    if loops is rans_loops:
        made, table = [0] * values.size, [[0] * TOKENS for _ in range(CLASSES)]
        of_value, known = models.CLASS_OF.tobytes(), values.tobytes()
        for first in range(0, values.size, segment):
            last = min(first + segment, values.size)
            loops.contexts(known, first, last, of_value, made, table)
        return np.array(made, np.uint8), np.array(table)
    classes: U8 = np.empty(values.size, np.uint8)
    counts = np.zeros((lanes, CLASSES, TOKENS), np.int64)

    def lane(number: int) -> None:
        first = number * segment
        last = min(first + segment, values.size)
        loops.contexts(values, first, last, models.CLASS_OF, classes, counts[number])

    threads.in_threads(lane, lanes)
    return classes, counts.sum(axis=0)


def encode(given: Classified, rest: bytes) -> bytes:
    """Return the bytes of symbols, and of what long ones leave out."""
    share = _share_of_positive(given.symbols)
    fitted, table = models.fit(given.counts, share)
    head = bytes([given.lanes.bit_length() - 1, share]) + table
    if not given.symbols.size:
        return head + rest
    states = np.full(given.lanes, LOWEST, np.int64)
    rows = (fitted.of_class.astype(np.int32) * STRIDE)[given.classes]
    words = _words(given.symbols, rows, fitted, states)
    sizes = np.array([w.size for w in words[:-1]], "<u4").tobytes()
    body = [w.astype("<u2", copy=False).tobytes() for w in words]
    return b"".join((head, sizes, states.astype("<u4").tobytes(), *body, rest))


def _words(
    values: U8, rows: NDArray[np.int32], fitted: Models, states: I64
) -> list[U16]:
    """Return the words of each group; `states` become those to begin decoding with."""
    segment = segment_of(values.size, states.size)
    parts = _groups(values.size, states.size, segment)
    loops = loops_for(values.size, states.size)
    starts, frequencies = fitted.starts().ravel(), fitted.frequencies.ravel()
    if loops is None:
        return _wide_words(values, rows, starts, frequencies, states, len(parts))
    found: list[U16] = [np.zeros(0, np.uint16)] * len(parts)

    def group(g: int) -> None:
        first, last = parts[g]
        own = states[g * GROUP : (g + 1) * GROUP]
        if loops is rans_loops:
            some, held = [0] * (last - first), own.tolist()
            at = loops.encode(
                values[first:last].tobytes(), rows[first:last].tolist(), segment,
                starts.tolist(), frequencies.tolist(), held, some,
            )  # fmt: skip
            own[:] = held
            found[g] = np.array(some[at:], np.uint16)
            return
        words = np.empty(last - first, np.uint16)
        at = loops.encode(
            values[first:last], rows[first:last], segment, starts, frequencies, own,
            words,
        )  # fmt: skip
        found[g] = words[at:]

    threads.in_threads(group, len(parts))
    return found


def _wide_words(
    values: U8,
    rows: NDArray[np.int32],
    starts: I64,
    frequencies: I64,
    states: I64,
    groups: int,
) -> list[U16]:
    segment = segment_of(values.size, states.size)
    steps = rans_wide.encode(values, rows, segment, starts, frequencies, states)
    group = np.concatenate([lanes for lanes, _ in steps]) // GROUP
    words = np.concatenate([some for _, some in steps])
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group, minlength=groups))[:-1]
    return np.split(words[order], ends)


def decode(data: U8, size: int) -> tuple[U8, U8]:
    """Decode `size` symbols; return them and the bytes after the words.

    Raises
    ------
    WireError
        If `data` is not of this form.
    """
    if data.size < _HEAD:
        raise WireError(f"{data.size} bytes of coded levels: the payload was cut short")
    power, share = int(data[0]), int(data[1])
    lanes = 1 << min(power, 31)
    if power > _MOST_LANES or lanes > max(1, size) or size > lanes * _STEPS:
        raise WireError(f"2^{power} lanes for {size} levels")
    most = 1 if size < _CONTEXTS_FROM else 16
    fitted, used = models.read(data[_HEAD:], share, most)
    at = _HEAD + used
    if not size:
        return np.zeros(0, np.uint8), data[at:]
    segment = segment_of(size, lanes)
    parts = _groups(size, lanes, segment)
    begin = at + 4 * (len(parts) - 1)
    if data.size < begin + 4 * lanes:
        raise WireError(f"{data.size} bytes do not hold the states of {lanes} lanes")
    counts = np.frombuffer(data[at:begin].tobytes(), "<u4").astype(np.int64)
    states = np.frombuffer(data[begin : begin + 4 * lanes].tobytes(), "<u4")
    tail = data[begin + 4 * lanes :]
    words = np.frombuffer(tail[: tail.size // 2 * 2].tobytes(), "<u2")
    last = words.size - int(counts.sum())
    if last < 0:
        raise WireError(f"groups of {int(counts.sum())} words in {words.size}")
    taken = np.append(counts, last)
    values: U8 = np.empty(size, np.uint8)
    ends = states.astype(np.int64)
    spent = _decoded(words.astype(np.uint16, copy=False), taken, fitted, ends, values)
    if spent is None or np.any(ends != LOWEST) or np.any(spent[:-1] != counts):
        raise WireError("coded levels do not end where they should: they are damaged")
    return values, tail[2 * int(spent.sum()) :]


def _decoded(
    words: U16, taken: I64, fitted: Models, states: I64, values: U8
) -> I64 | None:
    """Decode each group; return the words that each took, None if one had too few."""
    segment = segment_of(values.size, states.size)
    parts = _groups(values.size, states.size, segment)
    class_rows, lookup = fitted.of_value(), fitted.lookup()
    starts, frequencies = fitted.starts().ravel(), fitted.frequencies.ravel()
    ends = np.cumsum(taken)
    begins = ends - taken
    loops = loops_for(values.size, states.size)
    if loops is None:
        return rans_wide.decode(
            words, begins, ends, segment, values.size, class_rows, lookup, starts,
            frequencies, states, values,
        )  # fmt: skip
    spent = np.zeros(len(parts), np.int64)

    def group(g: int) -> None:
        first, last = parts[g]
        own, some = states[g * GROUP : (g + 1) * GROUP], words[begins[g] : ends[g]]
        average = np.zeros((2, own.size), np.int64)
        if loops is rans_loops:
            held, made = own.tolist(), [0] * (last - first)
            spent[g] = loops.decode(
                some.tolist(), segment, last - first, class_rows.data,
                lookup.data, starts.tolist(), frequencies.tolist(), held,
                *average.tolist(), made,
            )  # fmt: skip
            own[:], values[first:last] = held, made
            return
        spent[g] = loops.decode(
            some, segment, last - first, class_rows, lookup, starts, frequencies, own,
            *average, values[first:last],
        )  # fmt: skip

    threads.in_threads(group, len(parts))
    return None if np.any(spent < 0) else spent


def segment_of(size: int, lanes: int) -> int:
    """Return the length of a lane."""
    return max(1, -(-size // lanes))


def _groups(size: int, lanes: int, segment: int) -> list[tuple[int, int]]:
    """Return where the coordinates of each group begin and end."""
    each = GROUP * segment
    return [
        (min(g * each, size), min((g + 1) * each, size))
        for g in range(-(-lanes // GROUP))
    ]


def _share_of_positive(values: U8) -> int:
    """Return the share of positive numbers among those not zero, times 255."""
    nonzero = int(np.count_nonzero(values))
    positive = int(np.count_nonzero(values & 1))
    if positive in (0, nonzero):
        return 255 if positive else 0
    return min(max((510 * positive + nonzero) // (2 * nonzero), 1), 254)
