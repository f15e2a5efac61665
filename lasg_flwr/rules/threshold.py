"""The recent rounds' squared lengths, and the threshold that they give."""

import sys
from collections import deque
from collections.abc import Iterable
from math import fsum


class StepHistory:
    """Ring of the last d_max squared lengths.

    Under SGD they are squared steps ‖θ^{k+1−d} − θ^{k−d}‖², else ‖∇^{k−d}‖².

    Parameters
    ----------
    d_max : int
        How many past rounds the threshold looks back at, at least 1.
    squares : iterable of float
        Squared lengths to start with, oldest first.

    Examples
    --------
    >>> history = StepHistory(2)
    >>> history.threshold(c=10.0)
    0.0
    >>> for square in (1.0, 2.0, 4.0):
    ...     history.push(square)
    >>> history.threshold(c=10.0)  # (10 / 2) * (4 + 2)
    30.0
    """

    def __init__(self, d_max: int, squares: Iterable[float] = ()) -> None:
        self.d_max = d_max
        self.squares: deque[float] = deque(squares, maxlen=min(d_max, sys.maxsize))

    def push(self, squared_length: float) -> None:
        """Add that of the step just taken."""
        self.squares.append(squared_length)

    def threshold(self, c: float) -> float:
        """Return T^k, the right-hand side of (7), (9), (12), (14) and (16).

        T^k = (c / d_max) Σ_{d=1}^{d_max} ‖θ^{k+1−d} − θ^{k−d}‖², where steps before
        the first are 0 (θ^{−d} = θ^0), and c is absolute: that of the rule is in units
        of 1/η_0². Steps other than SGD have ‖∇^{k−d}‖² there, and the rule's c.
        """
        return c / self.d_max * fsum(self.squares)
