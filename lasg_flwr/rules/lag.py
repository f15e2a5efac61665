"""LAG-WK on stochastic gradients: the baseline that fails."""

from dataclasses import dataclass
from typing import ClassVar

from ..vectors import F32, squared_distance
from .base import Evidence, WorkerRule


@dataclass(frozen=True)
class LAG(WorkerRule):
    """Upload iff ‖∇ℓ(θ^k; ξ^k) − ∇ℓ(θ^{k−τ}; ξ^{k−τ})‖² > T^k: equation (7).

    The two gradients are taken on two different samples, so the left-hand side
    never falls below the gradient noise, see (8): the rule saves next to nothing.
    One gradient a round; the worker keeps the raw gradient of its last upload.

    Examples
    --------
    >>> import numpy as np
    >>> old = Evidence(gradient=np.float32([1, 1]))
    >>> LAG().lhs(np.float32([1, 3]), None, old)
    4.0
    """

    name: ClassVar[str] = "lag"

    def lhs(self, gradient: F32, second: F32 | None, kept: Evidence) -> float:
        """Return ‖∇ℓ(θ^k; ξ^k) − ∇ℓ(θ^{k−τ}; ξ^{k−τ})‖²."""
        return squared_distance(gradient, kept.gradient)

    def evidence(
        self,
        theta: F32,
        round_: int,
        gradient: F32,
        second: F32 | None,
        kept: Evidence | None,
    ) -> Evidence:
        """Keep the raw gradient."""
        return Evidence(gradient=gradient)
