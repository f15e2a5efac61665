"""A few bits at a time, for tables: least significant bit first."""

import numpy as np
from numpy.typing import NDArray

from ...errors import WireError

_LONGEST = 16
"""So many zeros before a number are too many."""


class BitWriter:
    """Numbers one after the other.

    Examples
    --------
    >>> out = BitWriter()
    >>> out.put(5, 3), out.gamma(-2)
    (None, None)
    >>> source = BitReader(np.frombuffer(out.to_bytes(), np.uint8))
    >>> source.take(3), source.gamma(), source.used_bytes
    (5, -2, 1)
    """

    def __init__(self) -> None:
        self._bits = self._count = 0

    def put(self, value: int, width: int) -> None:
        """Write `width` bits."""
        self._bits |= (value & ((1 << width) - 1)) << self._count
        self._count += width

    def gamma(self, value: int) -> None:
        """Write a signed number, small ones in few bits (exponential Golomb code)."""
        code = (2 * value - 1 if value > 0 else -2 * value) + 2
        width = code.bit_length() - 1
        self.put(0, width - 1)
        self.put(1, 1)
        self.put(code, width)

    def to_bytes(self) -> bytes:
        """Return what was written, padded to whole bytes."""
        return self._bits.to_bytes((self._count + 7) // 8, "little")


class BitReader:
    """Undoes `BitWriter`; raises `WireError` at the end of the data."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._data, self._at = data.data, 0
        self._end = 8 * data.size

    @property
    def used_bytes(self) -> int:
        """Bytes read, the last one perhaps in part."""
        return (self._at + 7) // 8

    def _ahead(self, width: int) -> int:
        """Return the next bits, `width` or more, 0 after the end of the data."""
        first = self._at >> 3
        some = self._data[first : first + (width >> 3) + 2]
        return int.from_bytes(some, "little") >> (self._at & 7)

    def take(self, width: int) -> int:
        """Read `width` bits."""
        if self._at + width > self._end:
            raise WireError("a table of frequencies was cut short")
        value = self._ahead(width) & ((1 << width) - 1)
        self._at += width
        return value

    def gamma(self) -> int:
        """Read a signed number."""
        zeros = _trailing_zeros(self._ahead(_LONGEST) | 1 << _LONGEST)
        if zeros == _LONGEST and self._at + zeros <= self._end:
            raise WireError("a table of frequencies holds a number too large")
        self.take(zeros + 1)
        width = zeros + 1
        code = self.take(width) + (1 << width) - 2
        return (code + 1) // 2 if code & 1 else -(code // 2)


def _trailing_zeros(value: int) -> int:
    return (value & -value).bit_length() - 1
