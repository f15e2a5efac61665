"""Variance-reduced lazy aggregation: upload when the *estimate* has changed."""

from dataclasses import dataclass
from math import nan
from typing import ClassVar, NamedTuple

import numpy as np

from ..checks import real, whole
from ..vectors import F32, squared_distance
from .base import Outcome, Seen, WorkerRule

LARGEST_SCALE = 80.0
"""Largest c_k / c."""

SMOOTHING = 0.1
"""Weight of a round's noise in the running mean s."""


class VRState(NamedTuple):
    """What the worker keeps of an upload; it changes on skips as well.

    Attributes
    ----------
    theta : ndarray, shape (p,)
        θ_a, the iterate of the upload.
    estimate : ndarray, shape (p,)
        A, an estimate of ∇L_m(θ_a).
    batches : float
        n, how many minibatches A is worth.
    noise : float, optional
        s, the running mean of one minibatch gradient's squared noise.
    counted : int
        The last round that is in A and s; a restored server repeats rounds.
    sent : ndarray, shape (p,), optional
        What was uploaded, where the memory keeps no h_m at the worker.
    """

    theta: F32
    estimate: F32
    batches: float
    noise: float | None
    counted: int
    sent: F32 | None


class Reduced(NamedTuple):
    """A variance-reduced gradient.

    Attributes
    ----------
    vector : ndarray, shape (p,)
        v.
    coefficient : float
        λ in [0, 1].
    batches : float
        How many minibatches v is worth, at least 1.
    """

    vector: F32
    coefficient: float
    batches: float


@dataclass(frozen=True)
class VR(WorkerRule[VRState]):
    """Upload v iff ‖v − h_m‖² > T^k, where v is a variance-reduced gradient.

    WK2 computes two gradients on one batch and throws one away. Here, with
    g = ∇ℓ(θ^k; ξ^k), g' = ∇ℓ(θ_a; ξ^k) at the iterate θ_a of the last upload,
    d = g − g', an estimate A of ∇L_m(θ_a) worth n minibatches, and the noise s of one,

        s ← 0.9 s + 0.1 ‖g' − A‖² n/(n+1)
        λ = clip((s − ‖d‖²/2) / (s (1 + 1/n)), 0, 1)
        v = g + λ (A − g')
        A ← (n A + g')/(n + 1),  n ← min(n + 1, n_max)

    and, with an upload, θ_a ← θ^k, A ← v, n ← clip(s / Var v, 1, n_max).

    The coefficient: A is independent of ξ^k, so Var v = Var g − 2λ Cov(g, g')
    + λ² (Var g' + Var A). With Var g = Var g' = s, Var A = s/n and, since
    Var d ≤ E‖d‖², Cov(g, g') ≥ s − ‖d‖²/2, that is at most
    s ((1 − λ)² + λ ‖d‖²/s + λ²/n), whose minimum is at the λ above.

    λ → 0 where the gradient has changed more than its noise: v is SGD's g. λ → n/(n+1)
    where it has hardly changed. The left-hand side is the innovation of LAG and CLAG,
    of an estimate whose noise is small; so it speaks up when the estimate has improved,
    too. With full gradients it is LAG.

    Its place: v is STORM's g + (1 − a)(v_old − g'), or SARAH's and PAGE's, with 1 for
    1 − a between restarts. Theirs compare neighbouring iterates with a coefficient that
    is fixed or scheduled; here it is the best one for what was measured, and θ_a stays
    at the last upload, so that A goes on improving on skips. LASG compares the same two
    gradients but uploads g; CLAG has the same trigger, on g. It is not one of the
    paper's rules. With A, λ and decisions held fixed v is unbiased; that s is estimated
    and uploads are chosen brings a squared bias of about .0005 s on quadratics (of the
    stale h: .006 s).

    In the first rounds everybody uploads, and g rather than v: while θ moves little, v
    is the mean of all gradients so far, and a sum of such running means holds twice the
    variance of the sum of the gradients, as the first count again and again. Round
    `warmup` replaces each g by a v. A new worker uploads g whenever it comes.

    T^k is c_k times the mean ‖∇^{k−d}‖² of ten rounds under every server step. The
    paper's ‖θ^{k+1−d} − θ^{k−d}‖²/η_0² is the same while η is constant; as η_k falls it
    vanishes before the gradients do, and everybody uploads what hardly counts.

    Two gradients a round, also when forced; the worker keeps θ_a and A.

    Parameters
    ----------
    c : float (default: 0.125)
        Threshold constant, in units of 1/η_0². A large c diverges where ηL is near 1.
    growth : float (default: 60)
        Rounds in which c doubles: c_k = c · min(1 + (k/growth)^1.5, 80), as early
        rounds need a small c and late ones want a large one. 0 keeps c as it is.
    n_max : float (default: 50)
        Largest n: how long A remembers.
    warmup : int (default: 3)
        The first rounds, in which uploads are g; c is 0 up to and in round `warmup`. 0
        leaves all this out.

    Examples
    --------
    >>> zero, one = np.zeros(2, "f4"), np.ones(2, "f4")
    >>> state = VRState(zero, one, 3.0, 0.5, 0, None)
    >>> reduced(one, one, state, noise=0.5).coefficient  # d = 0: n/(n + 1)
    0.75
    >>> reduced(5 * one, one, state, noise=0.5).coefficient  # far from θ_a
    0.0
    """

    name: ClassVar[str] = "vr"
    server_only: ClassVar[tuple[str, ...]] = ("c", "growth")
    worker_state = VRState
    compares_with_h: ClassVar[bool] = True
    compares_gradients: ClassVar[bool] = True

    c: float = 0.125
    growth: float = 60.0
    n_max: float = 50.0
    warmup: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        growth = real("growth", self.growth, least=0.0)
        object.__setattr__(self, "growth", growth)
        object.__setattr__(self, "n_max", real("n_max", self.n_max, least=1.0))
        object.__setattr__(self, "warmup", whole("warmup", self.warmup))

    def threshold_scale(self, k: int) -> float:
        """Return c_k / c."""
        if 0 < k <= self.warmup:
            return 0.0
        if not self.growth:
            return 1.0
        scale: float = 1.0 + (k / self.growth) ** 1.5
        return min(scale, LARGEST_SCALE)

    def reference_point(self, state: VRState | None, forced: bool) -> F32 | None:
        """Return θ_a, also for a forced upload: v is worth more than g."""
        return None if state is None else state.theta

    def update(self, state: VRState | None, seen: Seen) -> Outcome[VRState]:
        """Return ‖v − h_m‖² and v; bring A, n and s up to date."""
        g, old = seen.gradient, seen.reference_gradient
        if state is None or old is None:
            noise = getattr(seen.earlier, "noise", None)
            sent = None if seen.keeps_h else g
            new = VRState(seen.theta, g, 1.0, noise, seen.round, sent)
            return Outcome(g, state, new)
        kept = state
        if seen.round > state.counted:
            kept = self._counted(state, old, seen.round)
        noise = kept.noise or 0.0
        v, _, batches = reduced(g, old, state, noise)
        sent = g if seen.round < self.warmup else v
        held = state.sent if seen.h is None else seen.h
        lhs = nan if seen.forced else squared_distance(sent, held)
        new = VRState(
            seen.theta,
            v,
            min(batches, self.n_max),
            kept.noise,
            seen.round,
            None if seen.keeps_h else sent,
        )
        return Outcome(sent, kept, new, lhs)

    def _counted(self, state: VRState, old: F32, round_: int) -> VRState:
        """Return the state with g' in A and s."""
        n = state.batches
        miss = squared_distance(old, state.estimate) * n / (n + 1)
        if state.noise is not None:
            miss = (1 - SMOOTHING) * state.noise + SMOOTHING * miss
        estimate = state.estimate + (old - state.estimate) * np.float32(1 / (n + 1))
        return state._replace(
            estimate=estimate,
            batches=min(n + 1, self.n_max),
            noise=miss,
            counted=round_,
        )


def reduced(g: F32, old: F32, state: VRState, noise: float) -> Reduced:
    """Return v = g + λ (A − g') with the λ of least variance.

    Parameters
    ----------
    g, old : ndarray, shape (p,)
        g and g', on the same batch.
    state : VRState
        A and n before this batch.
    noise : float
        s; 0 means that there is none, and λ = 0.
    """
    if noise <= 0.0:
        return Reduced(g, 0.0, 1.0)
    n, change = state.batches, squared_distance(g, old) / noise
    coefficient = min(max((1 - change / 2) / (1 + 1 / n), 0.0), 1.0)
    variance = (1 - coefficient) ** 2 + coefficient * change + coefficient**2 / n
    v = g
    if coefficient:
        v = g + np.float32(coefficient) * (state.estimate - old)
    return Reduced(v, coefficient, max(1.0, 1 / max(variance, 1e-9)))
