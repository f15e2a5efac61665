"""LASG-PSE: LASG-PS with L_m estimated on the fly."""

from dataclasses import dataclass
from math import inf, sqrt
from typing import ClassVar, NamedTuple

import numpy as np

from ..checks import whole
from ..vectors import F32, F64, inner_product, squared_distance
from .base import Outcome, Seen, ServerRule

LARGEST = 1e150
"""Largest L̂_m; a worker may report any finite ratio."""


class PSEState(NamedTuple):
    """What the worker keeps: θ^{k−τ}, the iterate of its last upload."""

    theta: F32


class PSEEstimate(NamedTuple):
    """What the server keeps of a worker.

    Attributes
    ----------
    smoothness : float
        L̂_m.
    recent : ndarray, shape (at most window,), optional
        The last ratios, oldest first, where L̂_m forgets.
    """

    smoothness: float
    recent: F64 | None = None


@dataclass(frozen=True)
class PSE(ServerRule[PSEState]):
    """Contact worker m iff L̂_m² ‖θ^k − θ^{k−τ}‖² > T^k: (16), Algorithm 4.

    L̂_m is the running maximum of the ratio (17), which comes with each upload. A
    worker without an estimate is always contacted. Two gradients a contact; the
    worker keeps θ^{k−τ} as well.

    A maximum over a whole run never falls, though curvature does, and a ratio of two
    minibatch gradients holds their noise: E‖d‖² = ‖E d‖² + Var d for their change d.
    Two options that are not the paper's mend that.

    Parameters
    ----------
    window : int (default: 0)
        L̂_m is the largest of the last so many ratios; 0 is all of them.
    halves : int (default: 0)
        1 takes the ratio from the changes d_A and d_B on either half of the batch:
        √max(⟨d_A, d_B⟩, 0) / ‖θ^k − θ^{k−τ}‖. The halves are independent, so that
        E⟨d_A, d_B⟩ = ‖E d‖². Four gradients a contact, and the oracle must have
        ``halves``.

    Examples
    --------
    >>> PSE().lhs(0, None, squared_distance=0.0)
    inf
    >>> PSE().learn(PSEEstimate(2.0), 1.5)
    PSEEstimate(smoothness=2.0, recent=None)
    >>> estimate = PSE(window=2).learn(PSE(window=2).learn(None, 9.0), 2.0)
    >>> PSE(window=2).learn(estimate, 3.0).smoothness  # 9 is forgotten
    3.0
    """

    name: ClassVar[str] = "pse"
    server_only: ClassVar[tuple[str, ...]] = ("c", "window")
    worker_state = PSEState
    server_state = PSEEstimate

    window: int = 0
    halves: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "window", whole("window", self.window))
        object.__setattr__(self, "halves", whole("halves", self.halves, most=1))

    @property
    def halves_batches(self) -> bool:
        """Whether `halves` is on."""
        return bool(self.halves)

    def reference_point(self, state: PSEState | None, forced: bool) -> F32 | None:
        """Return θ^{k−τ}: every upload brings a ratio."""
        return None if state is None else state.theta

    def update(self, state: PSEState | None, seen: Seen) -> Outcome[PSEState]:
        """Return the ratio of (17); keep θ^k."""
        ratio = None
        if state is not None and seen.reference_gradient is not None:
            if seen.changes is not None:
                ratio = halved_ratio(*seen.changes, seen.theta, state.theta)
            else:
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
        """Return the maximum, capped so that its square is finite."""
        if smoothness_ratio is None:
            return state
        ratio = min(smoothness_ratio, LARGEST)
        if not self.window:
            return PSEEstimate(max(0.0 if state is None else state.smoothness, ratio))
        known = None if state is None else state.recent
        recent = np.append(np.zeros(0) if known is None else known, ratio)
        recent = recent[-self.window :]
        return PSEEstimate(float(recent.max()), recent)


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
    changed = squared_distance(gradient, reference_gradient)
    return _ratio(changed, theta, old_theta)


def halved_ratio(first: F32, second: F32, theta: F32, old_theta: F32) -> float | None:
    """Return √max(⟨d_A, d_B⟩, 0) / ‖θ^k − θ^{k−τ}‖, with the noise left out.

    Parameters
    ----------
    first, second : ndarray, shape (p,)
        d_A and d_B, the changes of the gradient on either half of a batch.
    theta, old_theta : ndarray, shape (p,)
        θ^k and θ^{k−τ}.

    Returns
    -------
    float or None
        None where θ has not moved, or the ratio is not finite.

    Examples
    --------
    >>> one, zero = np.float32([1.0, 0.0]), np.float32([0.0, 0.0])
    >>> noise = np.float32([0.0, 5.0])
    >>> halved_ratio(3 * one + noise, 3 * one, one, zero)
    3.0
    """
    return _ratio(max(inner_product(first, second), 0.0), theta, old_theta)


def _ratio(squared: float, theta: F32, old_theta: F32) -> float | None:
    moved = squared_distance(theta, old_theta)
    if moved == 0.0:
        return None
    value = sqrt(squared / moved)
    return value if value < inf else None
