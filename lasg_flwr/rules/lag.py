"""LAG-WK on stochastic gradients: the baseline that fails."""

from dataclasses import dataclass
from math import nan
from typing import ClassVar, NamedTuple

from ..vectors import F32, squared_distance
from .base import Outcome, Seen, WorkerRule


class LAGState(NamedTuple):
    """What the worker keeps: ∇ℓ(θ^{k−τ}; ξ^{k−τ}), the raw gradient of its upload."""

    gradient: F32


@dataclass(frozen=True)
class LAG(WorkerRule[LAGState]):
    """Upload iff ‖∇ℓ(θ^k; ξ^k) − ∇ℓ(θ^{k−τ}; ξ^{k−τ})‖² > T^k: equation (7).

    The two gradients are taken on two different samples, so the left-hand side
    never falls below the gradient noise, see (8): the rule saves next to nothing.
    One gradient a round; the worker keeps the raw gradient of its last upload.

    Examples
    --------
    >>> import numpy as np
    >>> old, new, theta = np.float32([1, 1]), np.float32([1, 3]), np.zeros(2, "f4")
    >>> LAG().update(LAGState(old), Seen(theta, 1, new, None, forced=False)).lhs
    4.0
    """

    name: ClassVar[str] = "lag"
    worker_state = LAGState

    def update(self, state: LAGState | None, seen: Seen) -> Outcome[LAGState]:
        """Return ‖∇ℓ(θ^k; ξ^k) − ∇ℓ(θ^{k−τ}; ξ^{k−τ})‖²; keep the raw gradient."""
        lhs = nan
        if state is not None and not seen.forced:
            lhs = squared_distance(seen.gradient, state.gradient)
        return Outcome(seen.gradient, state, LAGState(seen.gradient), lhs)
