"""`kernels.histogram` and `kernels.deadzone`, compiled by numba (extra ``fast``)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...vectors import F32
from .fast import compiled
from .kernels import BIN_SHIFT, MAGNITUDE, MOST_FLOAT, U8
from .symbols import DIRECT

_MAGNITUDE, _SHIFT = np.uint32(MAGNITUDE), np.uint32(BIN_SHIFT)


@compiled
def _histogram(bits: NDArray[np.uint32], counts: NDArray[np.int64]) -> None:
    for v in bits:
        counts[(v & _MAGNITUDE) >> _SHIFT] += 1


@compiled
def _deadzone(
    x: F32,
    inverse: float,
    rounding: float,
    values: NDArray[np.float64],
    symbols: U8,
    long: NDArray[np.int64],
) -> tuple[int, float, float]:
    found = 0
    lost, energy = np.zeros(8), np.zeros(8)
    step, offset = values[DIRECT], values[DIRECT + 1]
    for i in range(x.size):
        wide = np.float64(abs(x[i]))
        m = np.int64(wide * inverse + rounding)
        if m < DIRECT:
            decoded = values[m]
            token = m
        else:
            exact = (np.float64(m) + offset) * step
            decoded = np.float64(np.float32(min(exact, MOST_FLOAT)))
            long[found] = m
            found += 1
            exponent = 4
            while m >> (exponent + 1):
                exponent += 1
            token = 8 + 2 * exponent + ((m >> (exponent - 1)) & 1)
        positive = 1 if token > 0 and x[i] > 0 else 0
        symbols[i] = np.uint8(2 * token - positive)
        rest = wide - decoded
        lost[i & 7] += rest * rest
        energy[i & 7] += wide * wide
    total, square = lost[0], energy[0]
    for k in range(1, 8):
        total += lost[k]
        square += energy[k]
    return found, total, square


def histogram(x: F32, counts: NDArray[np.int64]) -> None:
    """See `kernels.histogram`."""
    _histogram(x.view(np.uint32), counts)


def deadzone(
    x: F32,
    inverse: float,
    rounding: float,
    values: NDArray[np.float64],
    symbols: U8,
    long: NDArray[np.int64],
) -> tuple[int, float, float]:
    """See `kernels.deadzone`."""
    found: tuple[Any, Any, Any] = _deadzone(x, inverse, rounding, values, symbols, long)
    return int(found[0]), float(found[1]), float(found[2])
