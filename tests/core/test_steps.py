"""Server steps against references written out, and the threshold over true steps."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
import pytest

from lasg_flwr import LasgConfig
from lasg_flwr.optim import SGD, Adam, AMSGrad, Momentum, ServerStep
from lasg_flwr.optim.schedules import (
    Decreasing,
)
from lasg_flwr.rules import WK2
from tests.problems.servers import server_for
from tests.problems.solved_least_squares import random_least_squares
from tests.problems.traces import drive

Reference = Callable[[list[list[float]]], list[list[float]]]


def reference_momentum(gradients: list[list[float]]) -> list[list[float]]:
    """v_t = Σ_s β^{t−s} g_s, β = 0.9, written out."""
    return [
        [sum(0.9 ** (t - s) * gradients[s][i] for s in range(t + 1)) for i in range(3)]
        for t in range(len(gradients))
    ]


def reference_adam(
    gradients: list[list[float]], running_maximum: bool = False
) -> list[list[float]]:
    """m̂/(√v̂ + 1e-8), one coordinate and one step at a time; β = (0.9, 0.999).

    With `running_maximum` v is replaced by its largest value so far (AMSGrad; the
    bias correction is applied after the maximum, as PyTorch does).
    """
    directions = [[0.0] * 3 for _ in gradients]
    for i in range(3):
        m = v = top = 0.0
        for t, gradient in enumerate(gradients, start=1):
            m = 0.9 * m + 0.1 * gradient[i]
            v = 0.999 * v + 0.001 * gradient[i] ** 2
            top = max(top, v) if running_maximum else v
            corrected = m / (1.0 - 0.9**t)
            directions[t - 1][i] = corrected / (sqrt(top / (1.0 - 0.999**t)) + 1e-8)
    return directions


def reference_amsgrad(gradients: list[list[float]]) -> list[list[float]]:
    return reference_adam(gradients, running_maximum=True)


STEPS: list[tuple[type[Momentum] | type[Adam], Reference]] = [
    (Momentum, reference_momentum),
    (Adam, reference_adam),
    (AMSGrad, reference_amsgrad),
]


@pytest.mark.parametrize(("kind", "reference"), STEPS)
def test_server_steps_equal_their_references(
    kind: type[ServerStep[Any]], reference: Reference
) -> None:
    """θ^{k+1} = θ^k − η_k · direction, in float64 with one rounding to float32.

    Gradients shrink after a large start, where AMSGrad differs from Adam.
    """
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((40, 3)) * np.geomspace(100, 0.01, 40)[:, None]
    schedule = Decreasing(0.5, 40.0)
    step, theta, state = kind(schedule), np.ones(3, np.float32), None
    for k, (gradient, direction) in enumerate(
        zip(gradients, reference(gradients.tolist()), strict=True)
    ):
        given = gradient.copy()
        after, state = step.update(theta, given, k, state)
        assert (given == gradient).all()
        assert after.dtype == np.float32
        exact = theta - schedule(k) * np.array(direction)
        np.testing.assert_allclose(after, exact, rtol=1e-6, atol=1e-7)
        theta = after


def test_the_server_steps_differ_from_each_other() -> None:
    gradients = np.geomspace(100, 0.01, 40)[:, None] * np.ones((40, 3))
    ends = []
    kinds: tuple[type[ServerStep[Any]], ...] = (SGD, Momentum, Adam, AMSGrad)
    for step in [kind(0.1) for kind in kinds]:
        theta, state = np.ones(3, np.float32), None
        for k, gradient in enumerate(gradients):
            theta, state = step.update(theta, gradient, k, state)
        ends.append(float(theta[0]))
    assert np.diff(sorted(ends)).min() > 1e-3


@pytest.mark.parametrize("kind", [Momentum, Adam, AMSGrad])
def test_c_is_in_units_of_the_first_step_under_sgd_alone(
    kind: type[Momentum] | type[Adam],
) -> None:
    """SGD compares gradients with steps, which are η_k ∇; the others with ∇ itself."""
    theta = np.zeros(3, np.float32)
    server = server_for(theta, WK2(c=2.0), step=kind(0.01))
    assert server.config.threshold_constant == 2.0
    assert server_for(theta, "vr", step=kind(0.01)).config.threshold_constant == 0.125
    server = server_for(theta, WK2(c=2.0), step=0.01)
    assert server.config.threshold_constant == pytest.approx(2e4)
    server = server_for(theta, "wk2", step=SGD(Decreasing(0.5, 8.0)))  # η_0 = 1/2
    assert server.config.threshold_constant == pytest.approx(4.0)


@pytest.mark.parametrize("rule", ["wk2:c=4.5", "vr:c=5"])
def test_a_large_c_warns_where_the_step_is_1(rule: str) -> None:
    with pytest.warns(UserWarning, match=r"off by 2\.[12] times.*use c <= 4"):
        LasgConfig(rule, step=1.0)
    for harmless in ("wk2:c=4", "vr", "sgd:c=9"):
        LasgConfig(harmless, step=1.0)
    LasgConfig(rule, step=0.5)
    LasgConfig(rule, step=Adam(1.0))


@pytest.mark.parametrize("step", [SGD(0.1), Momentum(0.02), Adam(0.05), AMSGrad(0.05)])
def test_the_threshold_is_over_true_steps_or_gradients(step: ServerStep[Any]) -> None:
    """T^k = (c/η_0²)/d_max Σ_{d=1}^{d_max} ‖θ^{k+1−d} − θ^{k−d}‖², θ^{−d} = θ^0.

    Steps other than SGD have (c/d_max) Σ ‖∇^{k−d}‖². For SGD with constant η the two
    are equal, to the rounding of θ.
    """
    problem = random_least_squares(2, workers=3, samples=10, size=4, drift=0.5)
    rounds, d_max, c = 40, 4, 0.7
    rule = WK2(c, d_max, 20)
    trace = drive(problem, rule, step, rounds, start=np.zeros(4))
    squares = np.square(np.diff(trace.thetas, axis=0)).sum(axis=1)
    squares /= step.schedule(0) ** 2
    gradients = np.array([float(g @ g) for g in trace.steps])
    lengths = squares if isinstance(step, SGD) else gradients
    for k in range(rounds):
        true = c / d_max * lengths[max(0, k - d_max) : k].sum()
        assert trace.thresholds[k] == pytest.approx(true, rel=1e-5)
    assert trace.thresholds[0] == 0.0
    assert squares.min() > 0.0
    assert trace.uploads < 3 * rounds
    apart = np.abs(np.log(gradients[5:] / squares[5:]))
    if isinstance(step, SGD):
        assert apart.max() < 1e-3
    else:
        assert np.median(apart) > 0.5
