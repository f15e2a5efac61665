"""LASG-WK1: compare variance-reduced gradients against a snapshot."""

from dataclasses import dataclass
from typing import ClassVar

from ..vectors import F32, squared_distance
from .base import Evidence, WorkerRule


@dataclass(frozen=True)
class WK1(WorkerRule):
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
    >>> kept = Evidence(snapshot=np.zeros(2, "f4"), delta=np.float32([1, 0]), period=0)
    >>> WK1().lhs(np.float32([4, 4]), np.float32([3, 2]), kept)  # ‖(1,2) − (1,0)‖²
    4.0
    """

    name: ClassVar[str] = "wk1"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_delay < self.d_max:
            raise ValueError(
                f"WK1 needs max_delay >= d_max, got max_delay={self.max_delay} and "
                f"d_max={self.d_max}: raise max_delay or lower d_max"
            )

    def refreshes(self, kept: Evidence | None, round_: int) -> bool:
        """Return whether round k lies in another period than the snapshot."""
        return kept is None or kept.period != round_ // self.max_delay

    def second_point(self, kept: Evidence | None, forced: bool) -> F32 | None:
        """Return θ̃; forced uploads need it too, for their δ̃."""
        return None if kept is None else kept.snapshot

    def lhs(self, gradient: F32, second: F32 | None, kept: Evidence) -> float:
        """Return ‖δ̃^k − δ̃^{k−τ}‖²."""
        return squared_distance(_delta(gradient, second), kept.delta)

    def evidence(
        self,
        theta: F32,
        round_: int,
        gradient: F32,
        second: F32 | None,
        kept: Evidence | None,
    ) -> Evidence:
        """Keep δ̃^k with its snapshot; without one, θ^k is the snapshot and δ̃ = 0."""
        if kept is None:
            return Evidence(snapshot=theta, period=round_ // self.max_delay)
        return Evidence(
            snapshot=kept.snapshot,
            delta=_delta(gradient, second),
            period=kept.period,
        )


def _delta(gradient: F32, second: F32 | None) -> F32:
    return gradient if second is None else gradient - second
