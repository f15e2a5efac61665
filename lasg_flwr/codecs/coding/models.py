"""Frequencies of symbols, one set for each context, and the table that carries them.

The context of a coordinate is found from the tokens before it, a fast and a slow
running average in units of 2⁻¹⁰:

    f ← ⌊(f + 2¹⁰t) / 2⌋,    s ← s + ⌊(2¹⁰t − s) / 16⌋,    v = ⌊(f + s) / 16⌋

v falls into one of 26 classes, two an octave; neighbouring classes that differ too
little to pay for a table of their own share one. So the model follows layers and rows
of different scale, without a word about them in the payload.

Of each set, the table holds q_t = round(4·log2(n_max / n_t)) for the tokens t, that is
their counts in steps of a quarter of a bit (63: the token does not occur). Both sides
make the same integer frequencies of it, which add up to 2¹²; signs share a token's
frequency as their numbers do in the whole vector.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import WireError
from .bits import BitReader, BitWriter
from .symbols import TOKENS

I64 = NDArray[np.int64]

PRECISION = 12
TOTAL = 1 << PRECISION
STRIDE = 128
"""Symbols in a row of frequencies, used or not."""

VALUES = (2 * (TOKENS - 1) << 10 >> 4) + 1
"""Number of values of v."""

ABSENT = 63
_MOST_MODELS = 16
_FRACTION = 16
_TABLE_BITS = 5
_FEW = 4
_QUARTERS = (1 << 24, 14107901, 11863283, 9975792)  # 2^(24 - q/4)


def _classes() -> NDArray[np.uint8]:
    """Return the class of each v: 0, 1, then two for each octave."""
    v = np.arange(VALUES)
    exponent = np.frexp(v)[1].astype(np.int64)  # 0, 1, 2, 2, 3, ...
    half = (v >> np.maximum(exponent - 2, 0)) & 1
    classes = np.where(v < 2, v, 2 * exponent - 2 + half)
    return classes.astype(np.uint8)


CLASS_OF = _classes()
CLASSES = int(CLASS_OF.max()) + 1


_PLACES = np.arange(TOTAL, dtype=np.int32) << 19
_ONE: NDArray[np.uint8] = np.zeros(VALUES, np.uint8)


class Models(NamedTuple):
    """Frequencies by context.

    Attributes
    ----------
    of_class : ndarray, shape (CLASSES,), uint8
        Which set of frequencies each class uses.
    frequencies : ndarray, shape (n, STRIDE), int64
        Of each symbol; a row adds up to 2¹².
    """

    of_class: NDArray[np.uint8]
    frequencies: I64

    def inverses(self) -> NDArray[np.float64]:
        """Return 1/f of each symbol, rounded up; 0 where it does not occur."""
        f = self.frequencies.ravel()
        return np.where(f > 0, np.nextafter(1.0 / np.maximum(f, 1), 2.0), 0.0)

    def of_value(self) -> NDArray[np.uint8]:
        """Return which set of frequencies each v uses."""
        if len(self.frequencies) == 1:
            return _ONE
        return self.of_class[CLASS_OF]

    def starts(self) -> I64:
        """Return the sum of the frequencies before each symbol."""
        starts: I64 = np.cumsum(self.frequencies, axis=1) - self.frequencies
        return starts

    def lookup(self) -> NDArray[np.uint8]:
        """Return the symbol of each number below 2¹², for each context."""
        symbols = np.tile(np.arange(STRIDE, dtype=np.uint8), len(self.frequencies))
        return np.repeat(symbols, self.frequencies.ravel())

    def slots(self) -> NDArray[np.uint32]:
        """Return what a decoder needs of each number n below 2¹², for each context.

        The symbol in 7 bits, its frequency less 1 in 12, n less its start in 12.
        """
        symbol = np.arange(self.frequencies.size, dtype=np.int32) % STRIDE
        frequencies = self.frequencies.ravel()
        start = self.starts().ravel().astype(np.int32)
        packed = symbol + ((frequencies.astype(np.int32) - 1) << 7) - (start << 19)
        slots = np.repeat(packed, frequencies)
        slots.reshape(-1, TOTAL)[:] += _PLACES
        return slots.view(np.uint32)


def most_for(size: int) -> int:
    """Return how many sets of frequencies a vector may have: they take memory.

    Examples
    --------
    >>> most_for(100), most_for(785), most_for(10_000)
    (1, 2, 16)
    """
    return min(1 + size // 512, _MOST_MODELS)


def fit(counts: I64, share: int, most: int = 16) -> tuple[Models, bytes]:
    """Choose contexts and frequencies for counts of tokens, of shape (classes, TOKENS).

    `share` is that of positive numbers among those other than zero, in units of 1/255.
    Returns the models, at most `most`, and their table.
    """
    groups = _merged(counts, most)
    of_class = np.zeros(CLASSES, np.uint8)
    for number, group in enumerate(groups):
        of_class[group] = number
    out = BitWriter()
    if most > 1:
        out.put(len(groups) - 1, 4)
    _put_edges(out, [group[0] for group in groups[1:]])
    rows, last = [], 1
    for group in groups:
        steps = _steps(counts[group].sum(axis=0))
        out.gamma(len(steps) - last)
        last, previous = len(steps), 0
        for q in steps:
            out.gamma(q - previous)
            previous = q
        rows.append(_frequencies(steps, share))
    return Models(of_class, np.array(rows)), out.to_bytes()


def read(data: NDArray[np.uint8], share: int, most: int) -> tuple[Models, int]:
    """Read a table of at most `most` sets; return it and the bytes that it took.

    Raises
    ------
    WireError
        If `data` does not begin with such a table.
    """
    source = BitReader(data)
    count = source.take(4) + 1 if most > 1 else 1
    if count > most:
        raise WireError(f"{count} sets of frequencies for a vector so short")
    of_class = np.zeros(CLASSES, np.uint8)
    for edge in _take_edges(source, count - 1):
        of_class[edge:] += 1
    rows, last = [], 1
    for _ in range(count):
        last += source.gamma()
        if not 1 <= last <= TOKENS:
            raise WireError(f"a table of {last} tokens, there are {TOKENS}")
        steps, q = [], 0
        for _ in range(last):
            q += source.gamma()
            steps.append(q)
        if min(steps) != 0 or max(steps) > ABSENT:
            raise WireError(f"a table of frequencies from {min(steps)} to {max(steps)}")
        rows.append(_frequencies(steps, share))
    return Models(of_class, np.array(rows)), source.used_bytes


def _put_edges(out: BitWriter, edges: list[int]) -> None:
    """Write the first class of each further set: 5 bits each, or a bit a class."""
    if len(edges) <= _FEW:
        for edge in edges:
            out.put(edge, 5)
    else:
        for c in range(1, CLASSES):
            out.put(int(c in edges), 1)


def _take_edges(source: BitReader, count: int) -> list[int]:
    if count <= _FEW:
        edges = [source.take(5) for _ in range(count)]
    else:
        edges = [c for c in range(1, CLASSES) if source.take(1)]
    if len(edges) != count or edges != sorted(set(edges)) or 0 in edges:
        raise WireError(f"{count + 1} sets of frequencies for classes from {edges}")
    return edges


def pays(counts: I64) -> bool:
    """Return whether these counts would be coded with more than one context."""
    return len(_merged(counts, _MOST_MODELS)) > 1


def _merged(counts: I64, most: int) -> list[list[int]]:
    """Merge neighbouring classes while that saves bits; return the groups."""
    used = np.flatnonzero(counts.sum(axis=1))
    groups = [[int(c)] for c in used] or [[0]]
    sums = list(counts[used]) if used.size else [counts[0]]
    costs = _costs(np.array(sums))
    pairs = _costs(np.array(sums[:-1]) + sums[1:]) if len(sums) > 1 else []
    while pairs:
        gains = [costs[i] + costs[i + 1] - both for i, both in enumerate(pairs)]
        i = max(range(len(gains)), key=gains.__getitem__)
        if gains[i] <= 0 and len(groups) <= most:
            break
        sums[i : i + 2] = [sums[i] + sums[i + 1]]
        groups[i : i + 2] = [groups[i] + groups[i + 1]]
        costs[i : i + 2] = [pairs[i]]
        del pairs[i]
        beside = [j for j in (i - 1, i) if 0 <= j < len(pairs)]
        if beside:
            anew = _costs(np.array([sums[j] + sums[j + 1] for j in beside]))
            for j, cost in zip(beside, anew, strict=True):
                pairs[j] = cost
    edges = [0, *(group[0] for group in groups[1:]), CLASSES]
    return [list(range(a, b)) for a, b in pairwise(edges)]


def _costs(rows: I64) -> list[int]:
    """Return about the bits that each row's tokens and their table take, times 2¹⁶.

    In integers: every machine must choose alike.
    """
    total = rows.sum(axis=1)
    bits = total * _log2(total) - (rows * _log2(rows)).sum(axis=1)
    last = rows.shape[1] - np.argmax(rows[:, ::-1] > 0, axis=1)
    bits += _TABLE_BITS * (last + 1) << _FRACTION
    costs: list[int] = np.where(total > 0, bits, 0).tolist()
    return costs


def _log2(n: I64) -> I64:
    bits: I64 = np.rint(np.log2(np.maximum(n, 1)) * (1 << _FRACTION)).astype(np.int64)
    return bits


def _steps(counts: I64) -> list[int]:
    """Return q of each token up to the last one that occurs."""
    present = np.flatnonzero(counts)
    n = counts[: present[-1] + 1] if present.size else np.ones(1, np.int64)
    ratio = n.max() / np.maximum(n, 1)
    q = np.rint(4 * np.log2(ratio)).astype(np.int64)
    steps: list[int] = np.where(n == 0, ABSENT, np.minimum(q, ABSENT - 1)).tolist()
    return steps


def _frequencies(steps: list[int], share: int) -> I64:
    """Return the frequency of each symbol: integers alone, equal on every machine."""
    weights = [0 if q == ABSENT else _QUARTERS[q & 3] >> (q >> 2) for q in steps]
    total, both = sum(weights), 0 < share < 255
    row = []
    for t, weight in enumerate(weights):
        least = (2 if both and t else 1) if steps[t] != ABSENT else 0
        row.append(max(least, (2 * TOTAL * weight + total) // (2 * total)))
    top = weights.index(max(weights))
    row[top] += TOTAL - sum(row)
    found = np.zeros(STRIDE, np.int64)
    found[0] = row[0]
    for t, f in enumerate(row[1:], 1):
        plus = (2 * f * share + 255) // 510
        if both and f:
            plus = min(max(plus, 1), f - 1)
        found[2 * t - 1], found[2 * t] = plus, f - plus
    return found
