"""LASG-PSE: LASG-PS with L_m estimated on the fly."""

from dataclasses import dataclass
from math import inf, sqrt
from typing import ClassVar, NamedTuple

from ..vectors import F32, squared_distance
from .base import Outcome, Seen, ServerRule

LARGEST = 1e150
"""Largest L̂_m; a worker may report any finite ratio."""


class PSEState(NamedTuple):
    """What the worker keeps: θ^{k−τ}, the iterate of its last upload."""

    theta: F32


class PSEEstimate(NamedTuple):
    """What the server keeps of a worker: L̂_m."""

    smoothness: float


@dataclass(frozen=True)
class PSE(ServerRule[PSEState]):
    """Contact worker m iff L̂_m² ‖θ^k − θ^{k−τ}‖² > T^k: (16), Algorithm 4.

    L̂_m is the running maximum of the ratio (17), which comes with each upload. A
    worker without an estimate is always contacted. Two gradients a contact; the
    worker keeps θ^{k−τ} as well.

    Examples
    --------
    >>> PSE().lhs(0, None, squared_distance=0.0)
    inf
    >>> PSE().learn(PSEEstimate(2.0), 1.5)
    PSEEstimate(smoothness=2.0)
    """

    name: ClassVar[str] = "pse"
    worker_state = PSEState
    server_state = PSEEstimate

    def reference_point(self, state: PSEState | None, forced: bool) -> F32 | None:
        """Return θ^{k−τ}: every upload brings a ratio."""
        return None if state is None else state.theta

    def update(self, state: PSEState | None, seen: Seen) -> Outcome[PSEState]:
        """Return the ratio of (17); keep θ^k."""
        ratio = None
        if state is not None and seen.reference_gradient is not None:
            ratio = smoothness_ratio(
                seen.gradient, seen.reference_gradient, seen.theta, state.theta
            )
        return Outcome(
            seen.gradient, state, PSEState(seen.theta), smoothness_ratio=ratio
        )

    def lhs(
        self, key: int, state: PSEEstimate | None, squared_distance: float
    ) -> float:
        """Return L̂_m² ‖θ^k − θ^{k−τ}‖²; inf without an estimate."""
        return inf if state is None else state.smoothness**2 * squared_distance

    def learn(
        self, state: PSEEstimate | None, smoothness_ratio: float | None
    ) -> PSEEstimate | None:
        """Return the running maximum, capped so that its square is finite."""
        if smoothness_ratio is None:
            return state
        largest = 0.0 if state is None else state.smoothness
        return PSEEstimate(min(max(largest, smoothness_ratio), LARGEST))


def smoothness_ratio(
    gradient: F32, reference_gradient: F32, theta: F32, old_theta: F32
) -> float | None:
    """Return ‖∇ℓ(θ^k; ξ) − ∇ℓ(θ^{k−τ}; ξ)‖ / ‖θ^k − θ^{k−τ}‖ of (17).

    Returns
    -------
    float or None
        None where θ has not moved, or the ratio is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> one, zero = np.float32([1.0]), np.float32([0.0])
    >>> smoothness_ratio(3 * one, zero, one, zero)
    3.0
    >>> smoothness_ratio(3 * one, zero, one, one) is None
    True
    """
    moved = squared_distance(theta, old_theta)
    if moved == 0.0:
        return None
    value = sqrt(squared_distance(gradient, reference_gradient) / moved)
    return value if value < inf else None
