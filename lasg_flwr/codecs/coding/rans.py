"""Interleaved range coding (rANS) of symbols, with contexts of their own history.

The vector is cut into K = 2^k lanes of ⌈p/K⌉ neighbouring coordinates, each with a
state of 32 bits and contexts of its own (`models`); up to 32 lanes form a group that
shares one stream of 16-bit words. So a vector can be worked off by many lanes at once,
and by threads, with the same bytes on any machine. Duda (2013), Giesen (2014).

| bytes | content |
|---|---|
| 1 | k, at most 16; left out where p < 512, as k = 0 |
| 1 | share of positive numbers among those other than zero, in units of 1/255 |
| … | table of frequencies, see `models` |
| 4·(groups − 1) | words in each group but the last |
| 4·K | states of the lanes |
| 2 each | words of each group |
| … | bits that long symbols leave out, to the end, see `symbols` |

The number of words in the last group follows from the length, and every lane must end
in the state it began with, so that damage is noticed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import WireError
from . import models, rans_loops, rans_wide, threads
from .backend import loops_for
from .history import MOST_LANES, STEPS, Classified, segment_of
from .kernels import U8, U16
from .models import STRIDE, Models
from .rans_loops import LOWEST
from .symbols import SHORT

I64 = NDArray[np.int64]

GROUP = 32


def encode(given: Classified, rest: bytes) -> bytes:
    """Return the bytes of symbols, and of what long ones leave out."""
    most = models.most_for(given.symbols.size)
    fitted, table = models.fit(given.tokens, given.share, most)
    power = given.lanes.bit_length() - 1
    short = given.symbols.size < SHORT
    head = bytes([given.share] if short else [power, given.share]) + table
    if not given.symbols.size:
        return head + rest
    states = np.full(given.lanes, LOWEST, np.int64)
    contexts = None
    if given.classes is not None and len(fitted.frequencies) > 1:
        contexts = np.take(fitted.of_class, given.classes)
    words = _words(given.symbols, contexts, fitted, states)
    sizes = np.array([w.size for w in words[:-1]], "<u4").tobytes()
    body = [w.astype("<u2", copy=False).tobytes() for w in words]
    return b"".join((head, sizes, states.astype("<u4").tobytes(), *body, rest))


def _words(values: U8, contexts: U8 | None, fitted: Models, states: I64) -> list[U16]:
    """Return the words of each group; `states` become those to begin decoding with."""
    segment = segment_of(values.size, states.size)
    parts = _groups(values.size, states.size, segment)
    loops, many = loops_for(values.size, states.size), contexts is not None
    if loops is None:
        return _wide_words(values, contexts, fitted, states, len(parts))
    tables: list[Any] = [
        fitted.frequencies.ravel(), fitted.starts().ravel(), fitted.inverses()
    ]  # fmt: skip
    found: list[U16] = [np.zeros(0, np.uint16)] * len(parts)

    def group(g: int) -> None:
        part, own = slice(*parts[g]), states[g * GROUP : (g + 1) * GROUP]
        some = values[part]
        context = some if contexts is None else contexts[part]
        words: U16 = np.empty(some.size, np.uint16)
        if loops is rans_loops:
            held, plain = own.tolist(), [table.data for table in tables]
            at = loops.encode(
                some.data, context.data, many, segment, *plain, held, words.data
            )
            own[:] = held
        else:
            at = loops.encode(some, context, many, segment, *tables, own, words)
        found[g] = words[at:]

    threads.in_threads(group, len(parts), values.size)
    return found


def _wide_words(
    values: U8, contexts: U8 | None, fitted: Models, states: I64, groups: int
) -> list[U16]:
    segment = segment_of(values.size, states.size)
    rows: Any = np.broadcast_to(np.int32(0), values.shape)
    if contexts is not None:
        rows = contexts.astype(np.int32) * STRIDE
    steps = rans_wide.encode(values, rows, segment, fitted, states)
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
    begin = 1 if size < SHORT else 2
    if data.size < begin:
        raise WireError(f"{data.size} bytes of coded levels: the payload was cut short")
    power, share = 0 if size < SHORT else int(data[0]), int(data[begin - 1])
    lanes = 1 << min(power, 31)
    if power > MOST_LANES or lanes > max(1, size) or size > lanes * STEPS:
        raise WireError(f"2^{power} lanes for {size} levels")
    fitted, used = models.read(data[begin:], share, models.most_for(size))
    at = begin + used
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
    ends = np.cumsum(taken)
    begins = ends - taken
    loops, many = loops_for(values.size, states.size), len(fitted.frequencies) > 1
    sets: Any = fitted.of_value()
    if loops is None:
        return rans_wide.decode(
            words, begins, ends, segment, values.size, sets, fitted, states, values
        )
    slots: Any = fitted.slots()
    spent = np.zeros(len(parts), np.int64)

    def group(g: int) -> None:
        first, last = parts[g]
        own = states[g * GROUP : (g + 1) * GROUP]
        some = words[begins[g] : ends[g]]
        average, made = np.zeros((2, own.size), np.int64), values[first:last]
        if loops is rans_loops:
            held = own.tolist()
            spent[g] = loops.decode(
                some.data, segment, made.size, many, sets.data, slots.data, held,
                *average.tolist(), made.data,
            )  # fmt: skip
            own[:] = held
            return
        spent[g] = loops.decode(
            some, segment, made.size, many, sets, slots, own, *average, made
        )

    threads.in_threads(group, len(parts), values.size)
    return None if np.any(spent < 0) else spent


def _groups(size: int, lanes: int, segment: int) -> list[tuple[int, int]]:
    """Return where the coordinates of each group begin and end."""
    each = GROUP * segment
    return [
        (min(g * each, size), min((g + 1) * each, size))
        for g in range(-(-lanes // GROUP))
    ]
