"""An optional bound on the length of uploads, relative to the other workers'."""

from math import sqrt
from statistics import median

from ..checks import real
from ..vectors import F32, squared_distance
from .refusals import Refusal, RefusedReply

MIN_OTHERS = 2
"""How many others must be known before anything is refused."""


class NormFilter:
    """Refuses uploads that are far longer than the other workers'.

    An upload of worker m is refused if ‖decoded‖ > bound · median over the others of
    their last accepted ‖decoded‖ of the same kind (innovation or full). Norms of a
    round count from the next round on, so that the order of arrival does not matter;
    in the first round nothing is known, and nothing is refused.

    It limits the damage of one bad upload; it is no defence against poisoning.

    Parameters
    ----------
    bound : float, optional
        The factor, > 0; left out, nothing is measured or refused.

    Raises
    ------
    ValueError
        If the bound is not finite and > 0.

    Examples
    --------
    >>> import numpy as np
    >>> norm_filter = NormFilter(10.0)
    >>> for key in range(3):
    ...     norm_filter.check(key, "full", np.ones(4, "f4"))
    >>> norm_filter.settle()
    >>> norm_filter.check(0, "full", 100 * np.ones(4, "f4"))
    Traceback (most recent call last):
    lasg_flwr.protocol.refusals.RefusedReply: too long: ‖upload‖ = 200 is more ...
    """

    def __init__(self, bound: float | None = None) -> None:
        self.bound = None if bound is None else real("norm_bound", bound, above=0)
        self.norms: dict[str, dict[int, float]] = {}
        self._new: dict[tuple[str, int], float] = {}

    def check(self, key: int, kind: str, decoded: F32) -> None:
        """Measure an upload.

        Raises
        ------
        RefusedReply
            If it is too long.
        """
        if self.bound is None:
            return
        norm = sqrt(squared_distance(decoded))
        known = self.norms.get(kind, {})
        others = [n for k, n in known.items() if k != key]
        if len(others) >= MIN_OTHERS and norm > self.bound * median(others):
            raise RefusedReply(
                Refusal.TOO_LONG,
                f"‖upload‖ = {norm:g} is more than {self.bound:g} times "
                f"{median(others):g}, the median of the other workers' {kind} uploads",
            )
        self._new[kind, key] = norm

    def settle(self) -> None:
        """Take over the norms of the round that closes."""
        for (kind, key), norm in self._new.items():
            self.norms.setdefault(kind, {})[key] = norm
        self._new.clear()
