"""LASG-WK1: compare variance-reduced gradients against a snapshot."""

from dataclasses import dataclass
from math import nan
from typing import ClassVar, NamedTuple

from ..vectors import F32, squared_distance
from .base import Outcome, Seen, WorkerRule


class WK1State(NamedTuple):
    """What the worker keeps.

    Attributes
    ----------
    snapshot : ndarray, shape (p,)
        θ̃.
    delta : ndarray, shape (p,), optional
        δ̃^{k−τ} of the last upload; None is 0.
    period : int
        ⌊k / D⌋ of the snapshot.
    """

    snapshot: F32
    delta: F32 | None
    period: int


@dataclass(frozen=True)
class WK1(WorkerRule[WK1State]):
    """Upload iff ‖δ̃^k − δ̃^{k−τ}‖² > T^k: equation (9), Algorithm 1.

    δ̃^k = ∇ℓ(θ^k; ξ^k) − ∇ℓ(θ̃; ξ^k), where the snapshot θ̃ is θ^k at k mod D = 0;
    everybody uploads then. A worker that was away takes its snapshot at its first
    contact in the new period. Two gradients a round (one at a snapshot, where δ̃ is
    0); the worker keeps θ̃ and the δ̃ of its last upload.

    Raises
    ------
    ValueError
        If D < d_max, which Algorithm 1 forbids.

    Examples
    --------
    >>> import numpy as np
    >>> theta = np.zeros(2, "f4")
    >>> seen = Seen(theta, 1, np.float32([4, 4]), np.float32([3, 2]), forced=False)
    >>> WK1().update(WK1State(theta, np.float32([1, 0]), 0), seen).lhs  # ‖(1,2)−(1,0)‖²
    4.0
    """

    name: ClassVar[str] = "wk1"
    worker_state = WK1State

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_delay < self.d_max:
            raise ValueError(
                f"WK1 needs max_delay >= d_max, got max_delay={self.max_delay} and "
                f"d_max={self.d_max}: raise max_delay or lower d_max"
            )

    def refreshes(self, state: WK1State | None, round_: int) -> bool:
        """Return whether round k lies in another period than the snapshot."""
        return state is None or state.period != round_ // self.max_delay

    def reference_point(self, state: WK1State | None, forced: bool) -> F32 | None:
        """Return θ̃; forced uploads need it too, for their δ̃."""
        return None if state is None else state.snapshot

    def update(self, state: WK1State | None, seen: Seen) -> Outcome[WK1State]:
        """Return ‖δ̃^k − δ̃^{k−τ}‖²; keep δ̃^k with its snapshot.

        Without a snapshot θ^k becomes one, and δ̃ is 0.
        """
        if state is None or seen.reference_gradient is None:
            new = WK1State(seen.theta, None, seen.round // self.max_delay)
            return Outcome(seen.gradient, state, new)
        delta = seen.gradient - seen.reference_gradient
        lhs = nan if seen.forced else squared_distance(delta, state.delta)
        return Outcome(seen.gradient, state, state._replace(delta=delta), lhs)
