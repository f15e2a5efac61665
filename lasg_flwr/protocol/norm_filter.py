"""An optional bound on the length of uploads, relative to the other workers'."""

from collections.abc import Container
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
    the ‖decoded‖ that they last sent, of the same kind (innovation or full). What was
    refused counts as well, so that the median can follow workers that all move on; one
    of 0 refuses nobody. Norms of a round count from the next round on, so that the
    order of arrival does not matter; in the first round nothing is refused.

    A worker that is refused until its last accepted upload is D rounds old is taken out
    of S. All this limits the damage of one bad upload; it is no defence against
    poisoning.

    Parameters
    ----------
    bound : float, optional
        The factor, > 0; left out, nothing is measured or refused.

    Attributes
    ----------
    norms : dict of str to dict of int to float
        The lengths known, by kind and key.

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
    set()
    >>> norm_filter.check(0, "full", 100 * np.ones(4, "f4"))
    Traceback (most recent call last):
    lasg_flwr.protocol.refusals.RefusedReply: too long: ‖upload‖ = 200 is more ...
    """

    def __init__(self, bound: float | None = None) -> None:
        self.bound = None if bound is None else real("norm_bound", bound, above=0)
        self.norms: dict[str, dict[int, float]] = {}
        self._refused: set[int] = set()
        self._new: dict[tuple[str, int], tuple[int, float]] = {}

    def check(self, key: int, kind: str, decoded: F32, node: int | None = None) -> None:
        """Measure an upload.

        Parameters
        ----------
        key : int
            The worker's.
        kind : {"innovation", "full"}
            What the upload is.
        decoded : ndarray, shape (p,)
            Gain applied.
        node : int, optional
            Where it came from: one length of each node is remembered, whatever keys it
            claims. Left out, the key.

        Raises
        ------
        RefusedReply
            If it is too long.
        """
        if self.bound is None:
            return
        norm = sqrt(squared_distance(decoded))
        self._new[kind, key if node is None else node] = key, norm
        self._refused.add(key)
        self.compare(key, kind, decoded)
        self._refused.discard(key)

    def compare(self, key: int, kind: str, decoded: F32) -> None:
        """Raise `RefusedReply` if an upload is too long; remember nothing of it."""
        if self.bound is None:
            return
        others = [n for k, n in self.norms.get(kind, {}).items() if k != key]
        norm = sqrt(squared_distance(decoded))
        if len(others) >= MIN_OTHERS and norm > self.bound * median(others) > 0:
            raise RefusedReply(
                Refusal.TOO_LONG,
                f"‖upload‖ = {norm:g} is more than {self.bound:g} times "
                f"{median(others):g}, the median of the other workers' {kind} uploads",
            )

    def settle(self, known: Container[int] | None = None) -> set[int]:
        """Take over the norms of the round that closes.

        Parameters
        ----------
        known : container of int, optional
            Keys of the workers that the server knows: what others sent is remembered
            for a round only, as strangers may claim any key.

        Returns
        -------
        set of int
            Keys whose uploads of this round were too long.
        """
        if known is not None:
            for norms in self.norms.values():
                for key in [key for key in norms if key not in known]:
                    del norms[key]
        for (kind, _), (key, norm) in self._new.items():
            self.norms.setdefault(kind, {})[key] = norm
        self._new.clear()
        refused, self._refused = self._refused, set()
        return refused
