"""A vector quantized with a dead zone, measured, and back again."""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import WireError
from ...vectors import F32, F64
from . import symbols as alphabet
from . import threads
from .backend import deadzone_for
from .kernels import MOST_FLOAT, U8, long_values
from .magnitudes import Quantizer
from .symbols import DIRECT, FIRST_LONG, MOST, SHORT

_UNIT = 128
_MOST_OFFSETS = 15


class Quantized(NamedTuple):
    """Symbols of a vector, and what is lost by them.

    Attributes
    ----------
    symbols : ndarray, shape (p,), uint8
        See `lasg_flwr.codecs.coding.symbols`.
    long : ndarray of int64
        Magnitudes of the long ones.
    lost, energy : float
        ‖x − C(x)‖² and ‖x‖², in float64, C(x) as it will be decoded.
    """

    symbols: U8
    long: NDArray[np.int64]
    lost: float
    energy: float


def _step_bytes(size: int) -> int:
    """Return how many of the upper bytes of Δ's float32 are in the payload."""
    return 2 if size < SHORT else 3


def on_the_wire(quantizer: Quantizer, size: int) -> Quantizer:
    """Return the quantizer with a step Δ that the payload can hold, rounded down."""
    dropped = 32 - 8 * _step_bytes(size)
    step = np.float32(min(quantizer.step, MOST_FLOAT)).view(np.uint32)
    cut = (int(step) >> dropped) << dropped
    return quantizer._replace(step=float(np.uint32(cut).view(np.float32)))


def head_of(quantizer: Quantizer, size: int) -> bytes:
    """Return Δ, the number of offsets, and the offsets, for p = `size`."""
    width = _step_bytes(size)
    bits = int(np.float32(quantizer.step).view(np.uint32)) >> (32 - 8 * width)
    count = len(quantizer.offsets)
    packed = struct.pack(f"<B{count}b", count, *quantizer.offsets)
    return bits.to_bytes(width, "little") + packed


def read_head(data: U8, size: int) -> tuple[Quantizer, int]:
    """Undo `head_of`; return the quantizer, and the bytes that it took.

    Raises
    ------
    WireError
        If there is no step above 0, or no offset.
    """
    width = _step_bytes(size)
    raw = data[: width + 1 + _MOST_OFFSETS].tobytes()
    count = raw[width] if len(raw) > width else 0
    used = width + 1 + count
    if not 1 <= count <= _MOST_OFFSETS or len(raw) < used:
        raise WireError(f"{count} offsets of levels, or a body cut short")
    bits = int.from_bytes(raw[:width], "little") << (32 - 8 * width)
    step = float(np.uint32(bits).view(np.float32))
    if not 0.0 < step < np.inf:
        raise WireError(f"a step of {step}: expected a number above 0")
    offsets = struct.unpack_from(f"<{count}b", raw, width + 1)
    return Quantizer(step, 0.0, offsets), used


def table_of(quantizer: Quantizer) -> F64:
    """Return what each m below 16 is decoded to, then Δ and the last offset."""
    offsets = quantizer.offsets + quantizer.offsets[-1:] * DIRECT
    m = np.arange(1, DIRECT)
    fine = np.array(offsets[: DIRECT - 1]) / _UNIT
    table = np.zeros(DIRECT + 2)
    table[1:DIRECT] = long_values(m, quantizer.step, fine)
    table[DIRECT:] = quantizer.step, quantizer.offsets[-1] / _UNIT
    return table


def quantize(x: F32, quantizer: Quantizer) -> Quantized:
    """Quantize a vector whose largest level is below 2²⁷."""
    table, loops = table_of(quantizer), deadzone_for(x.size)
    symbols: U8 = np.empty(x.size, np.uint8)
    parts = threads.blocks(x.size)
    long = [np.zeros(0, np.int32)] * len(parts)
    sums = np.zeros((len(parts), 2))
    inverse, rounding = 1.0 / quantizer.step, quantizer.rounding

    def part(i: int) -> None:
        start, stop = parts[i]
        long[i], *sums[i] = loops.deadzone(
            x[start:stop], inverse, rounding, table, symbols[start:stop]
        )

    threads.in_threads(part, len(parts))
    lost, energy = np.cumsum(sums, axis=0)[-1]
    large = np.concatenate(long).astype(np.int64)
    return Quantized(symbols, large, float(lost), float(energy))


def fits(top: float, quantizer: Quantizer) -> bool:
    """Return whether the level of the magnitude `top` has a token."""
    return quantizer.step > 0.0 and top / quantizer.step + 1 < MOST


def restore(symbols: U8, rest: U8, quantizer: Quantizer, out: F32) -> None:
    """Write what symbols, and the bits that long ones leave out, stand for.

    Raises
    ------
    WireError
        If `rest` is not of the right length.
    """
    table = table_of(quantizer)
    values = np.zeros(256, np.float32)
    values[1:FIRST_LONG:2] = table[1:DIRECT]
    values[2 : FIRST_LONG + 1 : 2] = -table[1:DIRECT]

    loops = deadzone_for(out.size)

    parts = threads.blocks(out.size)
    tops = [0] * len(parts)

    def part(i: int) -> None:
        some = slice(*parts[i])
        tops[i] = loops.look_up(symbols[some], values, out[some])

    threads.in_threads(part, len(parts))
    with_large = [i for i, top in enumerate(tops) if top >= FIRST_LONG]
    large = np.concatenate(
        [np.zeros(0, np.int64)]
        + [
            np.flatnonzero(symbols[slice(*parts[i])] >= FIRST_LONG) + parts[i][0]
            for i in with_large
        ]
    )
    those = symbols[large]
    m = alphabet.unpack_rest(those, rest)
    exact = long_values(m, table[DIRECT], table[DIRECT + 1])
    out[large] = np.where(those & 1, exact, -exact)
