"""How large coordinates are, and what a quantizer would make of them."""

from typing import NamedTuple

import numpy as np

from ...vectors import F32, F64
from . import threads
from .backend import deadzone_for
from .kernels import BIN_SHIFT, BINS
from .levels import check_finite
from .symbols import DIRECT

EXACT = 4096
"""Up to this length, every coordinate is looked at by itself."""

_FIRST_NOT_FINITE = 0xFF << 8
_PARTS = 1 << 20
_UNIT = 128
"""Offsets are multiples of this part of a step."""
_FINE = 64
"""Levels whose bins are narrower than half a step, in a histogram too."""
_FEW = 8
"""Levels are few where there are so many times as many values."""


class Magnitudes(NamedTuple):
    """Values |x_i|, increasing, and how many coordinates have each.

    From a histogram of the numbers' upper bits they are right to 1/512 of their value.
    """

    values: F64
    counts: F64
    width: float
    """Width of a bin, as a part of its value; 0 for exact values."""
    sums: F64
    """Of counts, counts·values, counts·values² up to each value: shape (3, n + 1)."""

    @classmethod
    def of(cls, values: F64, counts: F64, width: float) -> "Magnitudes":
        """Return magnitudes with their sums."""
        sums = np.zeros((3, values.size + 1))
        moments = np.array((counts, counts * values, counts * values * values))
        np.cumsum(moments, axis=1, out=sums[:, 1:])
        return cls(values, counts, width, sums)

    @property
    def energy(self) -> float:
        """‖x‖²."""
        return float(self.sums[2, -1])

    def by_level(self, step: float, rounding: float) -> F64 | None:
        """Return the three sums of each level m; None where levels are many."""
        top = self.values[-1] / step + rounding if self.values.size else 0.0
        if not top * _FEW <= self.values.size:
            return None
        top = int(top)
        first = (np.arange(1, top + 1) - rounding) * step
        at = np.empty(top + 2, np.intp)
        at[0], at[-1] = 0, self.values.size
        at[1:-1] = self.values.searchsorted(first)
        here = self.sums[:, at]
        return here[:, 1:] - here[:, :-1]


class Quantizer(NamedTuple):
    """A dead-zone quantizer: m = ⌊|x|/Δ + r⌋, decoded to (m + o_m/128)·Δ, 0 to 0.

    Attributes
    ----------
    step : float
        Δ.
    rounding : float
        r: below 1/2, zero has a larger share than others.
    offsets : tuple of int
        o_1, o_2, ...; the last one is that of all larger m too.
    """

    step: float
    rounding: float
    offsets: tuple[int, ...]


class Forecast(NamedTuple):
    """A quantizer, and what it will lose: ‖x − C(x)‖²."""

    quantizer: Quantizer
    lost: float


def magnitudes(x: F32) -> Magnitudes:
    """Return the magnitudes of a vector.

    Raises
    ------
    ValueError
        If there is NaN or infinity.
    """
    if x.size <= EXACT:
        check_finite(x)
        values = np.sort(np.abs(x)).astype(np.float64)
        return Magnitudes.of(values, np.ones(x.size), 0.0)
    loops, parts = deadzone_for(x.size), threads.blocks(x.size, _PARTS)
    counts = np.zeros((min(len(parts), threads.count()), BINS), np.int64)
    workers = len(counts)

    def part(worker: int) -> None:
        for start, stop in parts[worker::workers]:
            loops.histogram(x[start:stop], counts[worker])

    threads.in_threads(part, workers)
    total = counts[0] if workers == 1 else counts.sum(axis=0)
    if total[_FIRST_NOT_FINITE:].any():
        check_finite(x)
    used = np.flatnonzero(total)
    middle = (used.astype(np.uint32) << np.uint32(BIN_SHIFT)) | np.uint32(
        1 << (BIN_SHIFT - 1)
    )
    middle[used == 0] = 0
    values = middle.view(np.float32).astype(np.float64)
    return Magnitudes.of(values, total[used].astype(np.float64), 2.0**-8)


def forecast(
    given: Magnitudes, step: float, rounding: float, most_offsets: int
) -> Forecast:
    """Return what the quantizer with this step would do, its best offsets included."""
    sums = given.by_level(step, rounding)
    if sums is not None and sums.shape[1] <= _FINE:
        return _of_levels(sums, step, rounding, most_offsets)
    values, counts = given.values, given.counts
    level = np.floor(values / step + rounding)
    own = np.minimum(level, most_offsets).astype(np.int64)
    n = np.bincount(own, counts)
    over = np.bincount(own, counts * (values / step - level))
    offset = np.rint(_UNIT * over / np.maximum(n, 1))
    offset = np.clip(offset, -_UNIT, _UNIT - 1)
    offset[0] = 0
    decoded = (level + offset[own] / _UNIT) * step
    decoded[own == 0] = 0
    lost = (values - decoded) ** 2
    coarse = given.width * values > step / 2
    lost[coarse] = step * step / 12
    quantizer = Quantizer(step, rounding, tuple(int(o) for o in offset[1:]) or (0,))
    return Forecast(quantizer, _total(counts * lost))


def _of_levels(sums: F64, step: float, rounding: float, most_offsets: int) -> Forecast:
    """Return the forecast from the sums of each level, none of them coarse."""
    n, first, second = sums
    level = np.arange(n.size)
    groups = level[: most_offsets + 1]
    over = np.add.reduceat(first / step - level * n, groups)
    offset = np.rint(_UNIT * over / np.maximum(np.add.reduceat(n, groups), 1))
    offset = np.minimum(np.maximum(offset, -_UNIT), _UNIT - 1)
    own = np.minimum(level, most_offsets)
    decoded = (level + offset[own] / _UNIT) * step
    decoded[0] = 0
    lost = _total(second - decoded * (2 * first - decoded * n))
    quantizer = Quantizer(
        step, rounding, tuple(offset[1:].astype(int).tolist()) or (0,)
    )
    return Forecast(quantizer, lost)


def entropy(given: Magnitudes, quantizer: Quantizer) -> float:
    """Return the entropy of the levels and their signs, in bits.

    A level's share of a bin wider than a step is that of its width.
    """
    sums = given.by_level(quantizer.step, quantizer.rounding)
    if sums is not None:
        every = sums[0]
    else:
        level = np.floor(given.values / quantizer.step + quantizer.rounding)
        levels = np.minimum(level, 1 << 20).astype(np.int64)
        every = np.bincount(levels, given.counts).astype(np.float64)
    at = np.flatnonzero(every)
    n = every[at]
    gap = np.diff(at, append=at[-1] + 1)
    spread = np.where(at > 2 * DIRECT, np.maximum(gap, 1), 1)
    total = _total(n)
    bits = _total(n * np.log2(total * spread / n))
    return bits + total - (n[0] if at[0] == 0 else 0.0)


def _total(values: F64) -> float:
    """Return the sum in the order of the values, on every machine."""
    return float(np.cumsum(values)[-1]) if values.size else 0.0
