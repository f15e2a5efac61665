"""`kernels.histogram` and `kernels.deadzone`, compiled by numba (extra ``fast``)."""

from typing import Any

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from ...vectors import F32
from .fast import compiled
from .kernels import BIN_SHIFT, MAGNITUDE, MOST_FLOAT, SUMS, U8
from .symbols import DIRECT

_SOME = 1024
_MAGNITUDE, _SHIFT = np.uint32(MAGNITUDE), np.uint32(BIN_SHIFT)


@compiled
def _histogram(bits: NDArray[np.uint32], counts: NDArray[np.int64]) -> None:
    for v in bits:
        counts[(v & _MAGNITUDE) >> _SHIFT] += 1


@register_jitable  # type: ignore[untyped-decorator]
def _long(
    x: F32, levels: NDArray[np.int32], values: NDArray[np.float64], symbols: U8,
    long: NDArray[np.int32], rest: NDArray[np.float64],
) -> int:  # fmt: skip
    found = 0
    for i in range(x.size):
        m = levels[i]
        if m < DIRECT:
            continue
        exact = (np.float64(m) + values[DIRECT + 1]) * values[DIRECT]
        decoded = np.float64(np.float32(min(exact, MOST_FLOAT)))
        rest[i] = np.float64(abs(x[i])) - decoded
        exponent = 4
        while m >> (exponent + 1):
            exponent += 1
        token = 8 + 2 * exponent + ((m >> (exponent - 1)) & 1)
        symbols[i] = np.uint8(2 * token - (1 if x[i] > 0 else 0))
        long[found] = m
        found += 1
    return found


@compiled
def _deadzone(
    x: F32,
    inverse: float,
    rounding: float,
    values: NDArray[np.float64],
    symbols: U8,
    long: NDArray[np.int32],
) -> tuple[int, float, float]:
    found = 0
    lost, energy = np.zeros(SUMS), np.zeros(SUMS)
    levels, rest = np.empty(_SOME, np.int32), np.empty(_SOME)
    last = np.int32(DIRECT - 1)
    for start in range(0, x.size, _SOME):  # short loops, each of which is vectorised
        part, out = x[start : start + _SOME], symbols[start : start + _SOME]
        n, top = part.size, np.int32(0)
        for i in range(n):
            levels[i] = np.int32(np.float64(abs(part[i])) * inverse + rounding)
        for i in range(n):
            top = max(top, levels[i])
        for i in range(n):
            m = min(levels[i], last)
            positive = np.int32(1) if part[i] > 0 else np.int32(0)
            out[i] = np.uint8(2 * m - min(positive, m))
        for i in range(n):
            rest[i] = np.float64(abs(part[i])) - values[min(levels[i], last)]
        if top >= DIRECT:
            found += _long(part, levels, values, out, long[found:], rest)
        for i in range(0, n, SUMS):
            some, wide = rest[i : min(i + SUMS, n)], part[i : i + SUMS]
            for k in range(some.size):
                lost[k] += some[k] * some[k]
            for k in range(wide.size):
                energy[k] += np.float64(wide[k]) * np.float64(wide[k])
    total, square = 0.0, 0.0
    for k in range(SUMS):
        total += lost[k]
        square += energy[k]
    return found, total, square


@compiled
def _look_up(symbols: U8, values: F32, out: F32) -> np.uint8:
    top: Any = np.uint8(0)
    for i in range(out.size):
        out[i] = values[symbols[i]]
    for i in range(out.size):
        top = max(top, symbols[i])
    largest: np.uint8 = top
    return largest


def histogram(x: F32, counts: NDArray[np.int64]) -> None:
    """See `kernels.histogram`."""
    _histogram(x.view(np.uint32), counts)


def deadzone(
    x: F32, inverse: float, rounding: float, values: NDArray[np.float64], symbols: U8
) -> tuple[NDArray[np.int32], float, float]:
    """See `kernels.deadzone`."""
    long: NDArray[np.int32] = np.empty(x.size, np.int32)
    found: tuple[Any, Any, Any] = _deadzone(x, inverse, rounding, values, symbols, long)
    return long[: found[0]].copy(), float(found[1]), float(found[2])


def look_up(symbols: U8, values: F32, out: F32) -> int:
    """See `kernels.look_up`."""
    return int(_look_up(symbols, values, out))
