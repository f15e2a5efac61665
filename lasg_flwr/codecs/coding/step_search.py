"""The step Δ of a quantizer for an error or a rate, from magnitudes alone."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from .magnitudes import EXACT, Forecast, Magnitudes, Quantizer, entropy, forecast

T = TypeVar("T")

_SEARCHED = 24
_CLOSE = 0.002
_NARROW = 0.001
_TINY = 1e-300
ROUNDINGS = (0.2, 0.3, 0.4, 0.48)
"""Values of r that are tried: which is best depends on rate and distribution."""


def offsets_for(size: int) -> int:
    """Return how many levels have an offset of their own: each costs a byte."""
    return 2 if size <= EXACT else 4 if size <= 1 << 16 else 8


def for_error(given: Magnitudes, size: int, error: float) -> Quantizer:
    """Return the cheapest quantizer with ‖x − C(x)‖² of about `error`·‖x‖²."""
    allowed, most = error * given.energy, offsets_for(size)
    step = (12 * allowed / size) ** 0.5 / 2
    if size <= EXACT:
        rounding = _usual_rounding(error)
        return _largest(given, allowed, step, rounding, most).quantizer
    found: list[Quantizer] = []
    for rounding in ROUNDINGS:
        best = _largest(given, allowed, step, rounding, most)
        found.append(best.quantizer)
        step = best.quantizer.step
    return min(found, key=lambda q: round(entropy(given, q)))


def for_bits(given: Magnitudes, size: int, bits: float) -> Forecast:
    """Return the forecast of a quantizer with levels of about `bits` of entropy."""
    rounding, limit = 0.3 if bits < 1 else 0.4, bits * size

    def at(step: float) -> _Tried[None]:
        return _Tried(step, entropy(given, Quantizer(step, rounding, (0,))), None)

    good = at((12 * given.energy / size) ** 0.5)
    while good.value > limit:
        good = at(2 * good.step)
    for _ in range(_SEARCHED):
        bad = at(good.step / 1.5)
        if bad.value > limit:
            good = _closed_in(at, good, bad, limit, _NARROW)
            break
        good = bad  # to the end where values are so few that all fit
    return forecast(given, good.step, rounding, offsets_for(size))


def _usual_rounding(error: float) -> float:
    return 0.45 if error < 0.05 else 0.4 if error < 0.2 else 0.3 if error < 0.6 else 0.2


def _largest(
    given: Magnitudes, allowed: float, step: float, rounding: float, most: int
) -> Forecast:
    """Return the forecast of the largest step found that loses at most `allowed`."""

    def at(step: float) -> _Tried[Forecast]:
        made = forecast(given, step, rounding, most)
        return _Tried(step, made.lost, made)

    good = at(step)
    while good.value > allowed and good.step > _TINY:
        good = at(good.step / 2)
    bad = at(1.5 * good.step)
    while bad.value <= allowed:
        good, bad = bad, at(1.5 * bad.step)
    return _closed_in(at, good, bad, allowed, _CLOSE).made


class _Tried(NamedTuple, Generic[T]):
    """A step, what it loses or takes, and what that was found from."""

    step: float
    value: float
    made: T


def _closed_in(
    at: Callable[[float], _Tried[T]],
    good: _Tried[T],
    bad: _Tried[T],
    limit: float,
    close: float,
) -> _Tried[T]:
    """Return a step between the two whose value is at most `limit`, and near it."""
    for turn in range(_SEARCHED):  # regula falsi, halving where it is slow
        room, excess, gap = limit - good.value, bad.value - limit, bad.step - good.step
        if room <= close * limit or abs(gap) <= _NARROW * min(good.step, bad.step):
            break
        part = room / (room + excess) if turn % 3 < 2 else 0.5
        middle = at(good.step + gap * min(max(part, 0.02), 0.98))
        if middle.value <= limit:
            good = middle
        else:
            bad = middle
    return good
