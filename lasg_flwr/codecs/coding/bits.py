"""A few bits at a time, for tables: least significant bit first."""

import numpy as np
from numpy.typing import NDArray

from ...errors import WireError


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
        self._bits: list[int] = []

    def put(self, value: int, width: int) -> None:
        """Write `width` bits."""
        self._bits += [(value >> i) & 1 for i in range(width)]

    def gamma(self, value: int) -> None:
        """Write a signed number, small ones in few bits (exponential Golomb code)."""
        code = (2 * value - 1 if value > 0 else -2 * value) + 2
        width = code.bit_length() - 1
        self.put(0, width - 1)
        self.put(1, 1)
        self.put(code, width)

    def to_bytes(self) -> bytes:
        """Return what was written, padded to whole bytes."""
        return np.packbits(np.array(self._bits, np.uint8), bitorder="little").tobytes()


class BitReader:
    """Undoes `BitWriter`; raises `WireError` at the end of the data."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._data, self._at = data, 0

    @property
    def used_bytes(self) -> int:
        """Bytes read, the last one perhaps in part."""
        return (self._at + 7) // 8

    def take(self, width: int) -> int:
        """Read `width` bits."""
        if self._at + width > 8 * self._data.size:
            raise WireError("a table of frequencies was cut short")
        value = 0
        for i in range(width):
            bit = int(self._data[self._at >> 3]) >> (self._at & 7) & 1
            value |= bit << i
            self._at += 1
        return value

    def gamma(self) -> int:
        """Read a signed number."""
        width = 1
        while not self.take(1):
            width += 1
            if width > 16:
                raise WireError("a table of frequencies holds a number too large")
        code = self.take(width) + (1 << width) - 2
        return (code + 1) // 2 if code & 1 else -(code // 2)
