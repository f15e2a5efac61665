"""The recent steps of θ and the threshold that they give."""

import sys
from collections import deque
from collections.abc import Iterable
from math import fsum


class StepHistory:
    """Ring of the last d_max squared steps ‖θ^{k+1−d} − θ^{k−d}‖².

    Parameters
    ----------
    d_max : int
        How many past steps the threshold looks back at, at least 1.
    squares : iterable of float
        Squared steps to start with, oldest first.

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

    def push(self, squared_step: float) -> None:
        """Add ‖θ^{k+1} − θ^k‖² of the step just taken."""
        self.squares.append(squared_step)

    def threshold(self, c: float) -> float:
        """Return T^k, the right-hand side of (7), (9), (12), (14) and (16).

        T^k = (c / d_max) Σ_{d=1}^{d_max} ‖θ^{k+1−d} − θ^{k−d}‖², where steps before
        the first are 0 (θ^{−d} = θ^0).
        """
        return c / self.d_max * fsum(self.squares)
