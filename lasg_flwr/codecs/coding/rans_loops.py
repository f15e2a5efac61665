"""The sequential loops of `rans`: plain Python for short vectors, or compiled.

They work on lists and memoryviews as they are, and on arrays once numba has compiled
them; `rans_fast` has the two that matter most written out for it, and `rans_wide` does
the same over many lanes at once. All three give the same numbers.
"""

from typing import Any

from .models import PRECISION, STRIDE, TOTAL

LOWEST = 1 << 16


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
    contexts: Any,
    many: bool,
    segment: int,
    frequencies: Any,
    starts: Any,
    inverses: Any,
    states: Any,
    words: Any,
) -> int:
    """Encode the symbols of some lanes backwards; return where the words begin.

    x ← ⌊x/f⌋·2¹² + x mod f + start, after a word was taken off where x would overflow.
    `contexts` says of each symbol which set of frequencies it uses, where there are
    `many`. `inverses` holds 1/f, rounded up: as x/f < 2²⁰ and f <= 2¹², ⌊x·(1/f)⌋ is
    exact. `states` has one entry for each lane, and `words` room for one each symbol:
    they fill it from its end.
    """
    n, at = len(symbols), len(words)
    for i in range(min(segment, n) - 1, -1, -1):
        active = min(len(states), (n - i + segment - 1) // segment)
        for lane in range(active - 1, -1, -1):
            j = lane * segment + i
            row = symbols[j]
            if many:
                row += contexts[j] * STRIDE
            f, x = frequencies[row], states[lane]
            if x >= f << (32 - PRECISION):
                at -= 1
                words[at] = x & 0xFFFF
                x >>= 16
            quotient = int(x * inverses[row])
            states[lane] = x + starts[row] + quotient * (TOTAL - f)
    return at


def decode(
    words: Any,
    segment: int,
    size: int,
    many: bool,
    sets: Any,
    slots: Any,
    states: Any,
    fast: Any,
    slow: Any,
    symbols: Any,
) -> int:
    """Decode `size` symbols; return how many words they took, −1 if there are too few.

    `sets` holds for each v the set of frequencies that its class uses, `slots` what
    `models.Models.slots` makes; `fast` and `slow` are the running averages of a lane.
    """
    used, there, context = 0, len(words), 0
    for i in range(min(segment, size)):
        active = min(len(states), (size - i + segment - 1) // segment)
        for lane in range(active):
            if many:
                context = sets[(fast[lane] + slow[lane]) >> 4] << PRECISION
            x = states[lane]
            entry = slots[context + (x & (TOTAL - 1))]
            f = ((entry >> 7) & (TOTAL - 1)) + 1
            x = f * (x >> PRECISION) + (entry >> 19)
            if x < LOWEST:
                if used >= there:
                    return -1
                x = (x << 16) | words[used]
                used += 1
            states[lane] = x
            s = entry & 127
            symbols[lane * segment + i] = s
            if many:
                t = ((s + 1) >> 1) << 10
                fast[lane] = (fast[lane] + t) >> 1
                slow[lane] += (t - slow[lane]) >> 4
    return used


def count(symbols: Any, counts: Any) -> None:
    """Count the symbols; four tables, as adding twice to one place takes longer."""
    n = len(symbols)
    for i in range(0, n - 3, 4):
        counts[0][symbols[i]] += 1
        counts[1][symbols[i + 1]] += 1
        counts[2][symbols[i + 2]] += 1
        counts[3][symbols[i + 3]] += 1
    for i in range(n - n % 4, n):
        counts[0][symbols[i]] += 1
