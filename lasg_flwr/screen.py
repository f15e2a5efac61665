"""An optional bound on the length of uploads, relative to the other workers'."""

from math import isfinite, sqrt
from statistics import median

from .errors import WireError
from .vectors import F32, squared_distance

MIN_OTHERS = 2
"""How many others must be known before anything is refused."""


class NormScreen:
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
    >>> screen = NormScreen(10.0)
    >>> for key in range(3):
    ...     screen.check(key, "full", np.ones(4, "f4"))
    >>> screen.settle()
    >>> screen.check(0, "full", 100 * np.ones(4, "f4"))
    Traceback (most recent call last):
    lasg_flwr.errors.WireError: too long: ‖upload‖ = 200 is more than 10 times 2, ...
    """

    def __init__(self, bound: float | None = None) -> None:
        if bound is not None and not (isfinite(bound) and bound > 0):
            raise ValueError(f"norm_bound must be finite and > 0, got {bound!r}")
        self.bound = bound
        self.norms: dict[str, dict[int, float]] = {}
        self._new: dict[tuple[str, int], float] = {}

    def check(self, key: int, kind: str, decoded: F32) -> None:
        """Measure an upload.

        Raises
        ------
        WireError
            If it is too long.
        """
        if self.bound is None:
            return
        norm = sqrt(squared_distance(decoded))
        known = self.norms.get(kind, {})
        others = [n for k, n in known.items() if k != key]
        if len(others) >= MIN_OTHERS and norm > self.bound * median(others):
            raise WireError(
                f"too long: ‖upload‖ = {norm:g} is more than {self.bound:g} times "
                f"{median(others):g}, the median of the other workers' {kind} uploads"
            )
        self._new[kind, key] = norm

    def settle(self) -> None:
        """Take over the norms of the round that closes."""
        for (kind, key), norm in self._new.items():
            self.norms.setdefault(kind, {})[key] = norm
        self._new.clear()

    def as_dict(self) -> dict[str, list[tuple[int, float]]]:
        """Return the norms in JSON-ready form."""
        return {kind: sorted(norms.items()) for kind, norms in self.norms.items()}

    @staticmethod
    def norms_from(values: dict[str, list[list[float]]]) -> dict[str, dict[int, float]]:
        """Undo `as_dict`."""
        return {
            kind: {int(key): float(norm) for key, norm in pairs}
            for kind, pairs in values.items()
        }
