"""Inequality (15) of the paper, on runs of LASG-PS.

Equation numbers are those of T. Chen, Y. Sun and W. Yin, "Communication-Adaptive
Stochastic Gradient Methods for Distributed Learning" (2021). Every problem is
quadratic, so that θ*, L, L_m, μ and L̄ are computed, never estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import pytest

from lasg_flwr.optim import SGD
from lasg_flwr.optim.schedules import (
    Constant,
    Decreasing,
)
from tests.problems.solved_least_squares import SolvedLeastSquares, random_least_squares
from tests.problems.traces import Trace, drive, rule_named


@dataclass
class Terms:
    """The terms of (15) at one k and worker, of one run, without σ²."""

    moved: float
    stale: float  # 2 Σ_d η² (1/M) Σ_m L_m² ‖θ^{k−d} − θ^{used}‖²
    drift: float  # 2 Σ_d η² ‖∇L(θ^{k−d})‖²
    unscaled: float  # 2 Σ_d η² ‖θ^{k−d} − θ^{used by m}‖², as (15) is printed


def terms_of_15(
    problem: SolvedLeastSquares,
    trace: Trace,
    k: int,
    m: int,
    step: float,
    max_delay: int,
) -> Terms:
    """Evaluate (15); `step` is η_{k−D}, sums run over d = 1 ... min(D, k)."""
    theta = trace.thetas
    squares = np.square(problem.local_smoothness)
    old = theta[trace.used[k - 1, m]]
    stale = drift = unscaled = 0.0
    for j in range(max(0, k - max_delay), k):
        away = np.square(theta[j] - theta[trace.used[j]]).sum(axis=1)
        stale += 2 * step**2 * float(np.mean(squares * away))
        unscaled += 2 * step**2 * float(away[m])
        drift += 2 * step**2 * float(np.square(problem.gradient(theta[j])).sum())
    return Terms(float(np.square(theta[k] - old).sum()), stale, drift, unscaled)


@pytest.mark.parametrize("kind", ["constant", "decreasing"])
def test_inequality_15_holds_as_its_derivation_gives_it(kind: str) -> None:
    """(15), corrected, over 150 runs of LASG-PS, by four standard errors:

    E‖θ^k − θ^{k−τ}‖² ≤ (D²/M²) Σ_m σ_m² η² + 2D η² Σ_d E‖∇L(θ^{k−d})‖²
                        + (2D/M) η² Σ_d Σ_m L_m² E‖θ^{k−d} − θ^{k−d−τ}‖²,

    η = η_{k−D}. Neither of the paper's two versions is this one. Section VI.4 writes
    ‖Σ_m ∇L_m(θ^{k−d−τ_m})‖² / M² = ‖∇L + (1/M) Σ_m (∇L_m(stale) − ∇L_m)‖², which is
    at most 2‖∇L‖² + (2/M) Σ_m L_m²‖·‖²; its last line has 1/M² before both terms
    instead. The printed (15) has neither L_m² nor the mean over the workers. Both
    fail, see the next two tests. σ_m² is the exact variance of one sample at θ, its
    largest value over all visited iterates; θ^{k−d−τ} is the iterate of the gradient
    that step k − d used. The difference of the two sides is averaged over the runs
    and must exceed 0 by four standard errors, for every k and m tried.
    """
    runs, rounds, max_delay = 150, 30, 6
    problem = random_least_squares(
        4,
        workers=3,
        samples=8,
        size=2,
        drift=1.0,
        scales=np.array([0.5, 1.0, 1.4]),
    )
    eta = 0.1 / problem.smoothness
    schedule = (
        Constant(eta)
        if kind == "constant"
        else Decreasing(problem.mu, 2 / (problem.mu * eta))
    )
    rule = rule_named("ps", problem, 5, max_delay, 0.1)
    traces = [
        drive(
            problem,
            rule,
            SGD(schedule),
            rounds,
            start=problem.minimiser + 1.0,
            seed=seed,
        )
        for seed in range(runs)
    ]
    uploads = np.mean([t.uploads for t in traces]) / (rounds * 3)
    assert 1.2 / max_delay < uploads < 0.9  # stale gradients are used, and replaced
    visited = np.concatenate([t.thetas for t in traces])
    noise = sum(
        np.square(g - g.mean(axis=1, keepdims=True)).sum(axis=2).mean(axis=1).max()
        for g in (problem.sample_gradients(m, visited[:, None, :]) for m in range(3))
    )
    for k in (1, 3, 8, 15, 30):
        step = schedule(max(k - max_delay, 0))
        for m in range(3):
            gaps, moved = [], []
            for trace in traces:
                t = terms_of_15(problem, trace, k, m, step, max_delay)
                right = max_delay * (t.stale + t.drift)
                gaps.append(right + (max_delay * step / 3) ** 2 * noise - t.moved)
                moved.append(t.moved)
            assert min(moved) > 0.0
            assert np.mean(gaps) > 4 * np.std(gaps) / sqrt(runs)


def test_the_last_line_of_the_derivation_of_15_lacks_a_factor_m_squared() -> None:
    """With D = 1 and no noise θ^k − θ^{k−1} = η∇L: (2/M²) η²‖∇L‖² is half of it.

    M = 2, nothing stale, σ = 0; the corrected 2D η²‖∇L‖² is twice the left side.
    """
    features = np.ones((2, 1, 1))
    problem = SolvedLeastSquares(features, np.zeros((2, 1)))
    rule = rule_named("ps", problem, 1, 1)
    trace = drive(problem, rule, 0.1, 3, start=np.ones(1))
    t = terms_of_15(problem, trace, 3, 0, 0.1, 1)
    assert t.stale == 0.0
    assert t.moved == pytest.approx(t.drift / 2, rel=1e-5)
    last_line = t.drift / 2**2
    assert t.moved == pytest.approx(2 * last_line, rel=1e-5)


def test_inequality_15_as_printed_lacks_l_m_squared() -> None:
    """One stale gradient walks all the way: M = 1, L = 10, no noise, ηL = 1/D.

    Started at θ^0 = 1, LASG-PS skips (L²(τηL)² ≤ c(ηL)² = L² for τ ≤ D, d_max = 1),
    so that θ^k = 1 − kηL and θ^D = 0: the left side is 1 at k = D. Σ_d‖∇L‖² gives
    2/3 as D grows, and the stale term 2/3 with L², but 2/(3L²) as printed.
    """
    max_delay, smoothness = 20, 10.0
    problem = SolvedLeastSquares(np.full((1, 1, 1), sqrt(smoothness)), np.zeros((1, 1)))
    eta = 1 / (smoothness * max_delay)
    rule = rule_named("ps", problem, 1, max_delay)
    trace = drive(problem, rule, eta, max_delay, start=np.ones(1))
    assert trace.uploads == 1
    t = terms_of_15(problem, trace, max_delay, 0, eta, max_delay)
    assert t.moved == pytest.approx(1.0, abs=1e-5)
    assert max_delay * (t.unscaled + t.drift) < 0.8 * t.moved
    assert max_delay * (t.stale + t.drift) >= t.moved
