"""LASG-WK2: compare two iterates on the same sample."""

from dataclasses import dataclass
from math import nan
from typing import ClassVar, NamedTuple

from ..vectors import F32, squared_distance
from .base import Outcome, Seen, WorkerRule


class WK2State(NamedTuple):
    """What the worker keeps: θ^{k−τ}, the iterate of its last upload."""

    theta: F32


@dataclass(frozen=True)
class WK2(WorkerRule[WK2State]):
    """Upload iff ‖∇ℓ(θ^k; ξ^k) − ∇ℓ(θ^{k−τ}; ξ^k)‖² > T^k: (12), Algorithm 2.

    Both gradients are taken on the new sample ξ^k, so their noise cancels and the
    left-hand side vanishes as θ converges, see (13). Two gradients a round, one when
    forced; the worker keeps θ^{k−τ}, the iterate of its last upload.

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(2, "f4")
    >>> seen = Seen(zero, 1, np.float32([3, 4]), np.float32([0, 0]), forced=False)
    >>> WK2().update(WK2State(zero), seen).lhs
    25.0
    """

    name: ClassVar[str] = "wk2"
    worker_state = WK2State

    @property
    def keeps_gradients(self) -> bool:
        """False: the state holds θ."""
        return False

    def reference_point(self, state: WK2State | None, forced: bool) -> F32 | None:
        """Return θ^{k−τ}, unless the upload is forced anyway."""
        return None if forced or state is None else state.theta

    def update(self, state: WK2State | None, seen: Seen) -> Outcome[WK2State]:
        """Return ‖∇ℓ(θ^k; ξ^k) − ∇ℓ(θ^{k−τ}; ξ^k)‖²; keep θ^k."""
        lhs = nan
        if seen.reference_gradient is not None:
            lhs = squared_distance(seen.gradient, seen.reference_gradient)
        return Outcome(seen.gradient, state, WK2State(seen.theta), lhs)
