"""The step Δ of a quantizer for an error or a rate, from magnitudes alone."""

from .magnitudes import EXACT, Forecast, Magnitudes, Quantizer, entropy, forecast

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

    def rate(step: float) -> float:
        return entropy(given, Quantizer(step, rounding, (0,)))

    high = (12 * given.energy / size) ** 0.5
    least = rate(high)
    while least > limit:
        high *= 2
        least = rate(high)
    low, most = high, least
    for _ in range(_SEARCHED):
        low, most = low / 1.5, rate(low / 1.5)
        if most > limit:
            break
        high, least = low, most
    else:
        high = low  # values so few that all fit
    for turn in range(_SEARCHED):  # regula falsi, halving where it is slow
        if high - low <= _NARROW * low or limit - least <= _NARROW * limit:
            break
        part = (limit - least) / (most - least) if turn % 3 < 2 else 0.5
        middle = high - (high - low) * min(max(part, 0.02), 0.98)
        bits_there = rate(middle)
        if bits_there <= limit:
            high, least = middle, bits_there
        else:
            low, most = middle, bits_there
    return forecast(given, high, rounding, offsets_for(size))


def _usual_rounding(error: float) -> float:
    return 0.45 if error < 0.05 else 0.4 if error < 0.2 else 0.3 if error < 0.6 else 0.2


def _largest(
    given: Magnitudes, allowed: float, step: float, rounding: float, most: int
) -> Forecast:
    """Return the forecast of the largest step found that loses at most `allowed`."""

    def at(step: float) -> Forecast:
        return forecast(given, step, rounding, most)

    good = at(step)
    while good.lost > allowed and good.quantizer.step > _TINY:
        good = at(good.quantizer.step / 2)
    bad = at(1.5 * good.quantizer.step)
    while bad.lost <= allowed:
        good, bad = bad, at(1.5 * bad.quantizer.step)
    for turn in range(_SEARCHED):  # regula falsi, halving where it is slow
        a, b = good.quantizer.step, bad.quantizer.step
        room, excess = allowed - good.lost, bad.lost - allowed
        if room <= _CLOSE * allowed or b - a <= _NARROW * a:
            break
        part = room / (room + excess) if turn % 3 < 2 else 0.5
        middle = at(a + (b - a) * min(max(part, 0.02), 0.98))
        if middle.lost <= allowed:
            good = middle
        else:
            bad = middle
    return good
