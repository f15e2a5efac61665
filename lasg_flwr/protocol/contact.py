"""Whom a round contacts: everybody due, and under PS and PSE whoever has moved away."""

from math import inf
from typing import Any

from ..memory import Memory
from ..rules import Rule
from ..vectors import F32, squared_distance
from .roster import IterateStore, WorkerRecord


class Distances:
    """‖θ^k − θ^{k−τ}‖² of one round, computed once for each round of an upload.

    Parameters
    ----------
    theta : ndarray, shape (p,), float32
        θ^k.
    iterates : IterateStore
        Every θ^{k−τ} that is still in use.
    """

    def __init__(self, theta: F32, iterates: IterateStore) -> None:
        self._theta, self._iterates = theta, iterates
        self._known: dict[int, float] = {}

    def since(self, round_: int) -> float:
        """Return the squared distance from θ of `round_`; inf if it is not stored."""
        if round_ not in self._known:
            stored = self._iterates.get(round_)
            self._known[round_] = (
                inf if stored is None else squared_distance(self._theta, stored)
            )
        return self._known[round_]


def contact(
    rule: Rule[Any],
    memory: Memory,
    record: WorkerRecord | None,
    round_: int,
    threshold: float,
    distances: Distances,
) -> bool | None:
    """Return whether to force an upload; None to leave the worker alone.

    Parameters
    ----------
    rule, memory : Rule, Memory
        The server's.
    record : WorkerRecord, optional
        The worker's; None for a stranger.
    round_ : int
        k.
    threshold : float
        T^k.
    distances : Distances
        Those of this round.
    """
    if record is None:
        return True
    if memory.waits(record):
        return None
    if record.id is None or round_ - record.round >= rule.max_delay:
        return True
    if memory.rests(record, round_):
        return None
    last, moved = record.round, distances.since
    return rule.contacts(record.key, record.rule, last, moved, threshold)
