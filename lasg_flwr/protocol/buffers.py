"""Buffers, such as BatchNorm statistics: values that ride along with uploads.

A buffer has no gradient, so it is neither reused nor decided upon. A worker starts each
gradient from the server's buffers and sends, with an upload, the values that they have
after the gradient at θ^k. On the wire they are one dense payload.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..codecs import Dense, wire
from ..errors import WireError
from ..vectors import F32, F64, NO_BUFFERS, finite_vector, frozen
from .limits import LARGEST_VALUE
from .refusals import Refusal, RefusedReply


def encode(values: F32) -> bytes:
    """Return buffers as they travel; nothing at all where there are none.

    Examples
    --------
    >>> len(encode(np.float32([1, 2]))), encode(NO_BUFFERS)
    (20, b'')
    """
    return wire.encode(Dense(), values) if values.size else b""


def dense_bytes(values: F32) -> int:
    """Return the length of a dense payload; 0 of nothing."""
    return wire.HEADER_BYTES + values.nbytes if values.size else 0


class BufferMean:
    """The server's buffers b ← Σ w_m b_m / Σ w_m over the uploads of a round.

    The sum is in float64, and rounded to float32 once. A round without uploads leaves
    b as it is; what an earlier round brought is never added again.

    Parameters
    ----------
    values : ndarray, shape (B,), optional
        The first b; left out, there are no buffers.

    Attributes
    ----------
    values : ndarray, shape (B,), float32
        b, read-only.

    Raises
    ------
    ValueError
        If the values are no finite vector.

    Examples
    --------
    >>> mean = BufferMean(np.zeros(2))
    >>> mean.add(np.float32([1, 2]), 1.0)
    >>> mean.add(np.float32([5, 2]), 3.0)
    >>> mean.settle()
    >>> mean.values.tolist()
    [4.0, 2.0]
    """

    def __init__(self, values: NDArray[Any] | None = None) -> None:
        given = NO_BUFFERS if values is None else values
        self.values: F32 = finite_vector(given, "buffers")
        self._total: F64 | None = None
        self._weight = 0.0

    def decode(self, sent: bytes) -> F32 | None:
        """Return what a worker sent; None if it sent no buffers, as it may.

        Raises
        ------
        RefusedReply
            If it is anything but as many finite values as there are here.
        """
        if not sent:
            return None
        if not self.values.size:
            detail = f"{len(sent)} bytes where there are none"
            raise RefusedReply(Refusal.BAD_BUFFERS, detail)
        try:
            return wire.decode(sent, Dense(), self.values.size, largest=LARGEST_VALUE)
        except WireError as error:
            raise RefusedReply(Refusal.BAD_BUFFERS, str(error)) from None

    def add(self, values: F32 | None, weight: float) -> None:
        """Take in the buffers of one upload of this round, in key order."""
        if values is None:
            return
        if self._total is None:
            self._total = np.zeros(self.values.size)
        self._total += np.multiply(values, weight, dtype=np.float64)
        self._weight += weight

    def settle(self) -> None:
        """Take the mean for b: the round closes."""
        if self._total is None:
            return
        self.values = frozen((self._total / self._weight).astype(np.float32))
        self._total, self._weight = None, 0.0
