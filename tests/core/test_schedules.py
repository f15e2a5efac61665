"""Steps and c as the proofs of the paper need them.

Equation numbers are those of T. Chen, Y. Sun and W. Yin, "Communication-Adaptive
Stochastic Gradient Methods for Distributed Learning" (2021).
"""

from __future__ import annotations

from math import sqrt

import pytest

from lasg_flwr.optim.schedules import (
    decreasing_step,
    largest_c,
    square_root_step,
)


@pytest.mark.parametrize(
    ("smoothness", "workers", "max_delay", "mu"),
    [(1.0, 1, 1, 1.0), (0.3, 10, 50, 0.01), (7.0, 4, 10, 6.0), (2.0, 9, 3, 0.4)],
)
def test_steps_and_c_of_the_theorems(
    smoothness: float, workers: int, max_delay: int, mu: float
) -> None:
    """What the proofs need of the steps and c, written as they need it.

    All rest on γ_1 ≤ g := √M·D·L/3, with (49) or (60) for γ_1. Theorem 1 needs
    η ≤ 1/(2L + 4g), as in (52). Theorem 3 needs η_0 = 2/(μK_0) ≤ min{1/(L + 2g),
    1/(8μD)}, (61), of which K_0 is the smallest solution. c is the largest that meets
    both bounds of each theorem; with it γ_1 ≤ g is checked from (49) and (60).
    """
    d_max, big = 7, 10**9
    g = sqrt(workers) * max_delay * smoothness / 3
    longest = 1 / (2 * smoothness + 4 * g)
    args = (smoothness, workers, max_delay)
    assert square_root_step(1e6, 100, *args)(5) == pytest.approx(longest)
    assert square_root_step(3.0, big, *args)(0) == pytest.approx(3.0 / sqrt(big))

    schedule = decreasing_step(mu, *args)
    allowed = min(1 / (smoothness + 2 * g), 1 / (8 * mu * max_delay))
    assert schedule(0) == pytest.approx(allowed)
    assert schedule(11) == pytest.approx(2 / (mu * 11 + 2 / allowed))
    assert schedule(big) < schedule(0)

    for theorem, eta in ((1, longest), (3, allowed), (2, longest), (1, longest / 50)):
        a, b = {1: (12, 18), 2: (16, 24), 3: (24, 18)}[theorem]
        c = largest_c(theorem, eta, *args, d_max) / eta**2
        assert c * a * max_delay * eta**2 <= d_max * (1 + 1e-12)
        assert c * b <= d_max * sqrt(workers) * smoothness**2 * (1 + 1e-12)
        more = c * (1 + 1e-9)
        assert (
            more * a * max_delay * eta**2 > d_max
            or more * b > d_max * sqrt(workers) * smoothness**2
        )
        if theorem == 2:
            continue
        share = c * max_delay / d_max
        above = (eta + 1 / (2 * smoothness)) * share
        above += sqrt(workers) * max_delay * smoothness / 12
        below = 1 - 6 * share * eta**2
        if theorem == 3:
            below -= 2 * mu * max_delay * eta
        assert 0 < above / below <= g * (1 + 1e-12)


def test_both_bounds_on_c_bind_somewhere() -> None:
    """Long steps: d/(aD), in units of 1/η². Short ones: d√M·L²/b, whatever η."""
    for theorem, a, b in ((1, 12, 18), (2, 16, 24), (3, 24, 18)):
        long = largest_c(theorem, 5.0, 3.0, 4, 10, d_max=6)
        assert long == pytest.approx(6 / (a * 10))
        for eta in (1e-3, 1e-4):
            short = largest_c(theorem, eta, 3.0, 4, 10, d_max=6)
            assert short == pytest.approx(6 * 2 * 9 * eta**2 / b)
    with pytest.raises(ValueError, match="theorem must be"):
        largest_c(4, 1.0, 1.0, 1, 1, 1)


def test_the_practical_c_lies_far_above_that_of_theorem_1() -> None:
    """Default 1/η²; Theorem 1 allows at most d/(12Dη²): 12D/d times less.

    D = 100 and d_max = 10, the defaults: 120 times. D = 200: 240 times.
    """
    for max_delay, times in ((100, 120), (200, 240)):
        allowed = largest_c(1, 0.1, 1e6, 10, max_delay, 10)
        assert 1 / allowed == pytest.approx(times)
