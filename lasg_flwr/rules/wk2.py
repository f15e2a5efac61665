"""LASG-WK2: compare two iterates on the same sample."""

from dataclasses import dataclass
from typing import ClassVar

from ..vectors import F32, squared_distance
from .base import Evidence, WorkerRule


@dataclass(frozen=True)
class WK2(WorkerRule):
    """Upload iff ‖∇ℓ(θ^k; ξ^k) − ∇ℓ(θ^{k−τ}; ξ^k)‖² > T^k: (12), Algorithm 2.

    Both gradients are taken on the new sample ξ^k, so their noise cancels and the
    left-hand side vanishes as θ converges, see (13). Two gradients a round, one when
    forced; the worker keeps θ^{k−τ}, the iterate of its last upload.

    Examples
    --------
    >>> import numpy as np
    >>> WK2().lhs(np.float32([3, 4]), np.float32([0, 0]), Evidence())
    25.0
    """

    name: ClassVar[str] = "wk2"

    def second_point(self, kept: Evidence | None, forced: bool) -> F32 | None:
        """Return θ^{k−τ}, unless the upload is forced anyway."""
        return None if forced or kept is None else kept.theta

    def lhs(self, gradient: F32, second: F32 | None, kept: Evidence) -> float:
        """Return ‖∇ℓ(θ^k; ξ^k) − ∇ℓ(θ^{k−τ}; ξ^k)‖²."""
        return squared_distance(gradient, second)

    def evidence(
        self,
        theta: F32,
        round_: int,
        gradient: F32,
        second: F32 | None,
        kept: Evidence | None,
    ) -> Evidence:
        """Keep θ^k."""
        return Evidence(theta=theta)
