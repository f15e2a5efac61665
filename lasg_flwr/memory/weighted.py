"""Weighted sums of vectors, several vectors in one pass over the sum."""

import numpy as np

from ..codecs.coding.backend import addition_for
from ..vectors import F32, F64
from .base import add

BLOCK = 1 << 16
"""Elements of the sum that stay in the cache while all vectors are added to them."""

MOST_WAITING = 16
"""Vectors that may wait: each is kept alive until it is added."""


class WeightedSum:
    """Σ w x in float64, added up in the order in which the terms came.

    The sum is twice as long as a vector, so to read and to write it for each takes
    longer than all else. Vectors wait until there are `MOST_WAITING`, or the sum is
    asked for; one that nobody asks for is never made.

    Parameters
    ----------
    size : int
        p.

    Examples
    --------
    >>> total = WeightedSum(2)
    >>> total.add(np.float32([1, 2]), 1.0)
    >>> total.add(np.float32([1, 0]), 3.0)
    >>> total.total().tolist()
    [4.0, 2.0]
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._sum: F64 | None = None
        self._waiting: list[tuple[F32, float]] = []

    def __bool__(self) -> bool:
        """Whether there is a term."""
        return bool(self._waiting) or self._sum is not None

    def add(self, x: F32, weight: float) -> None:
        """Add w·x; `x` must not change any more."""
        self._waiting.append((x, weight))
        if self._size <= BLOCK or len(self._waiting) >= MOST_WAITING:
            self.total()

    def total(self) -> F64:
        """Return the sum, which is the caller's if nothing is added later."""
        if self._sum is None:
            self._sum = np.zeros(self._size)
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return self._sum
        loop = addition_for(self._size)
        for start in range(0, self._size, BLOCK):
            block = self._sum[start : start + BLOCK]
            for x, weight in waiting:
                one = add if loop is None or not x.dtype.isnative else loop
                one(block, x[start : start + BLOCK], weight)
        return self._sum
