"""The sequential loops of `rans`: plain Python for short vectors, or compiled.

They work on lists and bytes as they are, and on arrays once numba has compiled them
(`rans_fast`); `rans_wide` does the same over many lanes at once. All three give the
same numbers, as there are only integers in them.
"""

from typing import Any

from .models import PRECISION, STRIDE, TOTAL

LOWEST = 1 << 16
_MASK = TOTAL - 1
_LIMIT = 32 - PRECISION


def contexts(
    symbols: Any, first: int, last: int, class_of: Any, classes: Any, counts: Any
) -> None:
    """Find the classes of one lane, and count tokens in them."""
    fast = slow = 0
    for i in range(first, last):
        c = class_of[(fast + slow) >> 4]
        classes[i] = c
        t = (int(symbols[i]) + 1) >> 1
        counts[c][t] += 1
        fast = (fast + (t << 10)) >> 1
        slow += ((t << 10) - slow) >> 4


def encode(
    symbols: Any,
    rows: Any,
    segment: int,
    starts: Any,
    frequencies: Any,
    states: Any,
    words: Any,
) -> int:
    """Encode the symbols of some lanes backwards; return where the words begin.

    `rows` is STRIDE times the context of each symbol, `states` has one entry for each
    lane, and `words` room for one each symbol: they fill it from its end.
    """
    n, at = len(symbols), len(words)
    for i in range(segment - 1, -1, -1):
        if n <= i:
            continue
        active = min(len(states), (n - i + segment - 1) // segment)
        for lane in range(active - 1, -1, -1):
            j = lane * segment + i
            row = int(rows[j]) + int(symbols[j])
            f = int(frequencies[row])
            x = int(states[lane])
            if x >= f << _LIMIT:
                at -= 1
                words[at] = x & 0xFFFF
                x >>= 16
            quotient = x // f
            states[lane] = (quotient << PRECISION) + (x - quotient * f) + starts[row]
    return at


def decode(
    words: Any,
    segment: int,
    size: int,
    class_rows: Any,
    lookup: Any,
    starts: Any,
    frequencies: Any,
    states: Any,
    fast: Any,
    slow: Any,
    symbols: Any,
) -> int:
    """Decode `size` symbols; return how many words they took, −1 if there are too few.

    `class_rows` holds for each v the context that its class uses; `fast` and `slow`
    are the running averages of each lane.
    """
    used, there = 0, len(words)
    for i in range(min(segment, size)):
        active = min(len(states), (size - i + segment - 1) // segment)
        for lane in range(active):
            context = int(class_rows[(fast[lane] + slow[lane]) >> 4])
            x = int(states[lane])
            slot = x & _MASK
            s = int(lookup[(context << PRECISION) + slot])
            row = context * STRIDE + s
            x = int(frequencies[row]) * (x >> PRECISION) + slot - int(starts[row])
            if x < LOWEST:
                if used >= there:
                    return -1
                x = (x << 16) | int(words[used])
                used += 1
            states[lane] = x
            symbols[lane * segment + i] = s
            t = ((s + 1) >> 1) << 10
            fast[lane] = (fast[lane] + t) >> 1
            slow[lane] += (t - slow[lane]) >> 4
    return used
