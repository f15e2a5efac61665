"""LASG-PSE: LASG-PS with L_m estimated on the fly."""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

from ..vectors import F32, squared_distance
from .base import Evidence, ServerRule


@dataclass(frozen=True)
class PSE(ServerRule):
    """Contact worker m iff L̂_m² ‖θ^k − θ^{k−τ}‖² > T^k: (16), Algorithm 4.

    L̂_m is the running maximum of the ratio (17), which comes with each upload. A
    worker without an estimate is always contacted. Two gradients a contact; the
    worker keeps θ^{k−τ} as well.

    Examples
    --------
    >>> PSE().lhs(None, squared_distance=0.0)
    inf
    """

    name: ClassVar[str] = "pse"

    def second_point(self, kept: Evidence | None, forced: bool) -> F32 | None:
        """Return θ^{k−τ}: every upload brings a ratio."""
        return None if kept is None else kept.theta

    def ratio(
        self, gradient: F32, second: F32, theta: F32, kept: Evidence
    ) -> float | None:
        """Return the ratio of (17)."""
        if kept.theta is None:
            return None
        return smoothness_ratio(gradient, second, theta, kept.theta)

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


def smoothness_ratio(
    gradient: F32, second: F32, theta: F32, old_theta: F32
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
    value = sqrt(squared_distance(gradient, second) / moved)
    return value if value < float("inf") else None
