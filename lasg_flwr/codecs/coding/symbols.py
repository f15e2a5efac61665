"""Signed integers as symbols of a small alphabet, and what the symbols leave out.

A magnitude m has the token t = m below 16. From there on, an octave has two tokens:
t = 16 + 2(e − 4) + h for m of e + 1 bits whose second bit is h; the e − 1 bits below
are written as they are. A symbol is 0 for zero, 2t − 1 for a positive number and 2t
for a negative one. With less than 2²⁷ for a magnitude there are 62 tokens, and large
numbers, which are rare and spread thinly, do not swell a table of frequencies.
"""

import numpy as np
from numpy.typing import NDArray

from ...errors import WireError

DIRECT = 16
"""Magnitudes below this are tokens of their own."""

TOKENS = 62
MOST = (1 << 27) - 1
"""The largest magnitude."""

FIRST_LONG = 2 * DIRECT - 1
"""The first symbol that leaves bits out."""

SHORT = 512
"""Vectors shorter than this do without what they hardly need in a payload."""

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]


def tokens_of(magnitudes: I64) -> I64:
    """Return the token of each magnitude.

    Examples
    --------
    >>> tokens_of(np.array([0, 15, 16, 23, 24, 32, MOST])).tolist()
    [0, 15, 16, 16, 17, 18, 61]
    """
    exponent = np.maximum(np.frexp(magnitudes)[1].astype(np.int64) - 1, 4)
    half = (magnitudes >> (exponent - 1)) & 1
    return np.where(magnitudes < DIRECT, magnitudes, 8 + 2 * exponent + half)


def symbols_of(levels: I64) -> U8:
    """Return the symbol of each signed number."""
    tokens = tokens_of(np.abs(levels))
    symbols: U8 = (2 * tokens - (levels > 0)).astype(np.uint8)
    return symbols


def _left_out(symbols: U8) -> I64:
    """Return how many bits each long symbol leaves out."""
    tokens = (symbols.astype(np.int64) + 1) >> 1
    return (tokens - DIRECT) // 2 + 3


def pack_rest(symbols: U8, magnitudes: I64) -> bytes:
    """Return the bits that long symbols leave out, least significant bit first.

    Examples
    --------
    >>> pack_rest(np.uint8([31, 34]), np.array([21, 29])).hex()
    '2d'
    """
    widths = _left_out(symbols)
    which = np.repeat(np.arange(widths.size), widths)
    place = np.arange(which.size) - (np.cumsum(widths) - widths)[which]
    bits = (magnitudes[which] >> place) & 1
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def rest_bytes(symbols: U8) -> int:
    """Return how many bytes `pack_rest` makes for these long symbols."""
    return int(_left_out(symbols).sum() + 7) // 8


def unpack_rest(symbols: U8, packed: U8) -> I64:
    """Return the magnitudes of long symbols.

    Raises
    ------
    WireError
        If `packed` is not of the length that they ask for.

    Examples
    --------
    >>> unpack_rest(np.uint8([31, 34]), np.uint8([0x2D])).tolist()
    [21, 29]
    """
    if packed.size != rest_bytes(symbols):
        raise WireError(
            f"{packed.size} bytes for the low bits of {symbols.size} large levels, "
            f"expected {rest_bytes(symbols)}"
        )
    widths = _left_out(symbols)
    padded = np.zeros(packed.size + 8, np.uint8)
    padded[: packed.size] = packed
    windows: I64 = np.ndarray((packed.size + 1,), "<i8", padded, strides=(1,))
    first = np.cumsum(widths) - widths
    low = (windows[first >> 3] >> (first & 7)) & ((np.int64(1) << widths) - 1)
    half = (((symbols.astype(np.int64) + 1) >> 1) - DIRECT) % 2
    magnitudes: I64 = ((2 + half) << widths) | low
    return magnitudes
