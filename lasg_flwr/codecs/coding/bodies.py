"""The two forms of coded levels: all of them, or those that are not 0 and where."""

from typing import NamedTuple

import numpy as np

from ...errors import WireError
from ...vectors import F32
from . import history, quantized, rans
from . import indices as index_set
from . import symbols as alphabet
from .kernels import U8
from .magnitudes import Quantizer
from .quantized import Quantized
from .symbols import FIRST_LONG

ZERO, DENSE, LEVELS, SPARSE = range(4)
"""The first byte of a body; the last two have levels."""
_SPARSE_BELOW = 64


class Coded(NamedTuple):
    """A body, and the quantizer and the levels in it, if there are any."""

    body: bytes
    quantizer: Quantizer | None = None
    made: Quantized | None = None

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.body)

    def decoded(self) -> F32 | None:
        """Return what the levels stand for, as decoding the body would find it."""
        if self.quantizer is None or self.made is None:
            return None
        x: F32 = np.empty(self.made.symbols.size, np.float32)
        rest = np.frombuffer(_rest_of(self.made), np.uint8)
        quantized.restore(self.made.symbols, rest, self.quantizer, x)
        return x


def _rest_of(made: Quantized) -> bytes:
    """Return the bits that long symbols leave out."""
    symbols = made.symbols
    long = symbols[symbols >= FIRST_LONG] if made.long.size else symbols[:0]
    return alphabet.pack_rest(long, made.long)


def code(quantizer: Quantizer, made: Quantized) -> Coded:
    """Return the smaller of the two forms."""
    symbols, counts = made.symbols, history.count(made.symbols)
    nonzero = symbols.size - int(counts[0])
    top = int(np.flatnonzero(counts)[-1] + 1) >> 1
    quantizer = quantizer._replace(offsets=quantizer.offsets[: top or 1])
    head = quantized.head_of(quantizer, symbols.size)
    rest = _rest_of(made)
    coded = rans.encode(history.classify(symbols, counts), rest)
    levels = b"".join((bytes([LEVELS]), head, coded))
    if nonzero * _SPARSE_BELOW > symbols.size or not nonzero:
        return Coded(levels, quantizer, made)
    at = np.flatnonzero(symbols)
    counts[0] = 0
    sparse = b"".join(
        (
            bytes([SPARSE]),
            head,
            nonzero.to_bytes(4, "little"),
            index_set.encode(at),
            rans.encode(history.classify(symbols[at], counts), rest),
        )
    )
    return Coded(min(levels, sparse, key=len), quantizer, made)


def decode_levels(data: U8, x: F32) -> None:
    """Write what a body of levels stands for, its first byte left out."""
    quantizer, used = quantized.read_head(data, x.size)
    symbols, rest = rans.decode(data[used:], x.size)
    quantized.restore(symbols, rest, quantizer, x)


def decode_sparse(data: U8, x: F32) -> None:
    """Write what a sparse body stands for, its first byte left out.

    Raises
    ------
    WireError
        If there cannot be so many coordinates.
    """
    quantizer, used = quantized.read_head(data, x.size)
    k = int.from_bytes(data[used : used + 4].tobytes(), "little")
    if not 1 <= k <= x.size:
        raise WireError(f"{k} of {x.size} coordinates are said not to be zero")
    at, more = index_set.decode(data[used + 4 :].tobytes(), k, x.size)
    symbols, rest = rans.decode(data[used + 4 + more :], k)
    values = np.empty(k, np.float32)
    quantized.restore(symbols, rest, quantizer, values)
    x[:] = 0
    x[at] = values
