"""Every rule as a plain loop: start reading here.

No protocol, codecs or classes: M workers that never fail, dense uploads, plain SGD.
Each loop takes the steps of the engine to the bit, and is what its tests compare it
with. Equation numbers are those of the paper named in `lasg_flwr`.

All loops share three lines. h[m] is the last gradient that worker m uploaded, and

    T = (c/η²)/d_max Σ of the last d_max squared steps ‖θ^{k+1−d} − θ^{k−d}‖²      (7)
    S = Σ h[m] over all workers, kept up to date by what is uploaded
    θ ← θ − η S/M                                                          (4), (5)

Every function takes a `Run` and returns θ after each round and the number of uploads.
"""

from collections.abc import Sequence
from math import fsum, inf, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .oracles import Oracle
from .random import keyed_generator
from .vectors import F32, F64, squared_distance

Path = tuple[list[F32], int]
Vectors = dict[int, F32]
Rounds = dict[int, int]


class Run(NamedTuple):
    """What is given: an oracle for each worker, θ^0, the number of rounds, η, and more.

    c is in units of 1/η², and 1 (of `vr` 1/8) if left out; D is `max_delay`.
    """

    oracles: Sequence[Oracle]
    theta: NDArray[Any]
    rounds: int
    eta: float
    c: float | None = None
    d_max: int = 10
    max_delay: int = 100
    seed: int = 0


def _start(run: Run) -> tuple[F32, F64, Any]:
    """Return θ^0, S = 0, and what draws the batch ξ_m^k."""

    def draw(m: int, k: int) -> Any:
        return run.oracles[m].draw(keyed_generator(run.seed, m, k))

    return run.theta.astype(np.float32), np.zeros(len(run.theta)), draw


def _threshold(run: Run, path: list[F32]) -> float:
    """Return T^k; `path` holds θ^0, ..., θ^k."""
    c = (1.0 if run.c is None else run.c) / run.eta**2
    recent = path[-run.d_max - 1 :]
    steps = zip(recent[1:], recent[:-1], strict=True)
    return c / run.d_max * fsum(squared_distance(new, old) for new, old in steps)


def _move(run: Run, theta: F32, s: F64, h: Vectors, new: Vectors) -> tuple[F32, F64]:
    """Take in the uploads of a round, in key order; return θ^{k+1} and S.

    If everybody has uploaded, S is built anew, so that no rounding remains of the past.
    """
    incoming: F64 = sum((new[m].astype(np.float64) for m in sorted(new)), 0 * s)
    outgoing: F64 = sum((h[m].astype(np.float64) for m in sorted(new) if m in h), 0 * s)
    h.update(new)
    s = incoming if len(new) == len(h) else s - outgoing + incoming
    return (theta - run.eta * (s / len(h))).astype(np.float32), s


def sgd(run: Run) -> Path:
    """Everybody uploads ∇ℓ(θ^k; ξ^k) in every round: (3)."""
    theta, s, draw = _start(run)
    path, h = [theta], Vectors()
    for k in range(run.rounds):
        new = {m: o.gradient(theta, draw(m, k)) for m, o in enumerate(run.oracles)}
        theta, s = _move(run, theta, s, h, new)
        path.append(theta)
    return path[1:], run.rounds * len(run.oracles)


def lag(run: Run) -> Path:
    """Upload iff ‖∇ℓ(θ^k; ξ^k) − ∇ℓ(θ^{k−τ}; ξ^{k−τ})‖² > T, or τ ≥ D: (7)."""
    theta, s, draw = _start(run)
    path, h, last, uploads = [theta], Vectors(), Rounds(), 0
    for k in range(run.rounds):
        t, new = _threshold(run, path), Vectors()
        for m, oracle in enumerate(run.oracles):
            g = oracle.gradient(theta, draw(m, k))
            due = m not in h or k - last[m] >= run.max_delay
            if due or squared_distance(g, h[m]) > t:
                new[m], last[m] = g, k
        theta, s = _move(run, theta, s, h, new)
        path.append(theta)
        uploads += len(new)
    return path[1:], uploads


def wk1(run: Run) -> Path:
    """Upload iff ‖δ^k − δ^{k−τ}‖² > T; all do at k mod D = 0: (9), Algorithm 1.

    δ^k = ∇ℓ(θ^k; ξ^k) − ∇ℓ(θ̃; ξ^k), where the snapshot θ̃ is θ^k at k mod D = 0.
    """
    theta, s, draw = _start(run)
    path, h, delta, snapshot, uploads = [theta], Vectors(), Vectors(), theta, 0
    for k in range(run.rounds):
        t, new = _threshold(run, path), Vectors()
        if k % run.max_delay == 0:
            snapshot, delta = theta, Vectors()
        for m, oracle in enumerate(run.oracles):
            batch = draw(m, k)
            g = oracle.gradient(theta, batch)
            if k % run.max_delay == 0:
                new[m], delta[m] = g, np.zeros_like(g)
                continue
            moved = g - oracle.gradient(snapshot, batch)
            if squared_distance(moved, delta[m]) > t:
                new[m], delta[m] = g, moved
        theta, s = _move(run, theta, s, h, new)
        path.append(theta)
        uploads += len(new)
    return path[1:], uploads


def wk2(run: Run) -> Path:
    """Upload iff ‖∇ℓ(θ^k; ξ^k) − ∇ℓ(θ^{k−τ}; ξ^k)‖² > T, or τ ≥ D: (12), Alg. 2."""
    theta, s, draw = _start(run)
    path, h, old, last, uploads = [theta], Vectors(), Vectors(), Rounds(), 0
    for k in range(run.rounds):
        t, new = _threshold(run, path), Vectors()
        for m, oracle in enumerate(run.oracles):
            batch = draw(m, k)
            g = oracle.gradient(theta, batch)
            due = m not in h or k - last[m] >= run.max_delay
            if due or squared_distance(g, oracle.gradient(old[m], batch)) > t:
                new[m], last[m], old[m] = g, k, theta
        theta, s = _move(run, theta, s, h, new)
        path.append(theta)
        uploads += len(new)
    return path[1:], uploads


def ps(run: Run, smoothness: Sequence[float]) -> Path:
    """Contact worker m iff L_m² ‖θ^k − θ^{k−τ}‖² > T, or τ ≥ D: (14), Algorithm 3."""
    theta, s, draw = _start(run)
    path, h, old, last, uploads = [theta], Vectors(), Vectors(), Rounds(), 0
    for k in range(run.rounds):
        t, new = _threshold(run, path), Vectors()
        for m, oracle in enumerate(run.oracles):
            due = m not in h or k - last[m] >= run.max_delay
            if due or smoothness[m] ** 2 * squared_distance(theta, old[m]) > t:
                new[m], last[m], old[m] = oracle.gradient(theta, draw(m, k)), k, theta
        theta, s = _move(run, theta, s, h, new)
        path.append(theta)
        uploads += len(new)
    return path[1:], uploads


def pse(run: Run) -> Path:
    """Contact worker m iff L̂_m² ‖θ^k − θ^{k−τ}‖² > T, or τ ≥ D: (16), Algorithm 4.

    L̂_m is the largest ‖∇ℓ(θ^k; ξ^k) − ∇ℓ(θ^{k−τ}; ξ^k)‖ / ‖θ^k − θ^{k−τ}‖ so far (17).
    """
    theta, s, draw = _start(run)
    path, h, old, last, uploads = [theta], Vectors(), Vectors(), Rounds(), 0
    smoothness: dict[int, float] = {}
    for k in range(run.rounds):
        t, new = _threshold(run, path), Vectors()
        for m, oracle in enumerate(run.oracles):
            due = m not in h or k - last[m] >= run.max_delay or m not in smoothness
            far = squared_distance(theta, old[m]) if m in old else inf
            if due or smoothness[m] ** 2 * far > t:
                batch = draw(m, k)
                new[m], last[m] = oracle.gradient(theta, batch), k
                if 0 < far < inf:
                    change = new[m] - oracle.gradient(old[m], batch)
                    ratio = sqrt(squared_distance(change) / far)
                    smoothness[m] = max(smoothness.get(m, 0.0), ratio)
                old[m] = theta
        theta, s = _move(run, theta, s, h, new)
        path.append(theta)
        uploads += len(new)
    return path[1:], uploads


def vr(run: Run, growth: float = 60.0, n_max: float = 50.0, warmup: int = 3) -> Path:
    """Upload v iff ‖v − h[m]‖² > T, or τ ≥ D: see `lasg_flwr.rules.vr`.

    v is ∇ℓ(θ^k; ξ^k) with its noise reduced by what is known at the last upload's θ.
    In the first rounds g itself is sent. T is over ‖S/M‖², which is a step over η.
    """
    theta, s, draw = _start(run)
    path, h, old, last, uploads = [theta], Vectors(), Vectors(), Rounds(), 0
    estimate, worth, noise = Vectors(), dict[int, float](), dict[int, float]()
    squares: list[float] = []
    for k in range(run.rounds):
        scale = 0.0 if k <= warmup else min(1 + (k / growth) ** 1.5, 80.0)
        c = (0.125 if run.c is None else run.c) * scale
        t, new = c / run.d_max * fsum(squares[-run.d_max :]), Vectors()
        for m, oracle in enumerate(run.oracles):
            batch = draw(m, k)
            g, n = oracle.gradient(theta, batch), 1.0
            v = g
            if m in h:
                before = oracle.gradient(old[m], batch)
                miss, n = before - estimate[m], worth[m]
                now = squared_distance(miss) * n / (n + 1)
                noise[m] = 0.9 * noise[m] + 0.1 * now if m in noise else now
                change = squared_distance(g, before) / noise[m]
                weight = max((1 - change / 2) / (1 + 1 / n), 0.0)
                v = g - np.float32(weight) * miss
                estimate[m] = estimate[m] + miss * np.float32(1 / (n + 1))
                worth[m] = min(n + 1, n_max)
                n = 1 / ((1 - weight) ** 2 + weight * change + weight**2 / n)
            sent = g if k < warmup else v
            due = m not in h or k - last[m] >= run.max_delay
            if due or squared_distance(sent, h[m]) > t:
                new[m], last[m], old[m] = sent, k, theta
                estimate[m], worth[m] = v, min(max(n, 1.0), n_max)
        theta, s = _move(run, theta, s, h, new)
        squares.append(squared_distance(s / len(h)))
        path.append(theta)
        uploads += len(new)
    return path[1:], uploads
