"""Smoothness constants: bounds, and where they are attained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from lasg_flwr import Oracle
from lasg_flwr.oracles.local import LocalSteps
from lasg_flwr.rules.smoothness import linear_smoothness, local_steps_smoothness
from lasg_flwr.vectors import F32, F64
from tests.problems.solved_least_squares import random_least_squares


def numerical_hessian(gradient: Callable[[F64], F64], theta: F64) -> F64:
    """Central differences of a gradient."""
    step = 1e-5
    rows = [
        (gradient(theta + step * e) - gradient(theta - step * e)) / (2 * step)
        for e in np.eye(len(theta))
    ]
    return np.array(rows)


def curvature(gradient: Callable[[F64], F64], theta: F64) -> float:
    """λ_max of the Hessian, numerically."""
    hessian = numerical_hessian(gradient, theta)
    return float(np.linalg.eigvalsh((hessian + hessian.T) / 2)[-1])


@pytest.mark.parametrize("shape", [(30, 4), (3, 6)])
def test_logistic_smoothness_is_attained_at_zero(shape: tuple[int, int]) -> None:
    """Hessian Xᵀ diag(s(1 − s)) X / n + λ, s(1 − s) ≤ 1/4 with equality at θ = 0."""
    rng = np.random.default_rng(0)
    x, y, l2 = rng.standard_normal(shape), rng.choice([-1.0, 1.0], shape[0]), 0.03

    def gradient(theta: F64) -> F64:
        pull = -y / (1 + np.exp(y * (x @ theta)))
        result: F64 = x.T @ pull / len(y) + l2 * theta
        return result

    bound = linear_smoothness(x, "logistic", l2)
    assert curvature(gradient, np.zeros(shape[1])) == pytest.approx(bound, rel=1e-6)
    for scale in (0.1, 1.0, 5.0):
        theta = scale * rng.standard_normal(shape[1])
        assert curvature(gradient, theta) < bound * (1 - 1e-5)


def softmax_gradient(x: F64, labels: F64, classes: int) -> Callable[[F64], F64]:
    def gradient(theta: F64) -> F64:
        scores = x @ theta.reshape(x.shape[1], classes)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        pull = odds / odds.sum(axis=1, keepdims=True)
        pull[np.arange(len(x)), labels.astype(int)] -= 1
        result: F64 = (x.T @ pull / len(x)).ravel()
        return result

    return gradient


def test_softmax_smoothness_is_a_tight_upper_bound() -> None:
    """λ_max(diag(p) − ppᵀ) ≤ 1/2, with equality at p = (1/2, 1/2, 0, ...).

    Two classes attain it at θ = 0. With three, θ = 0 gives p = (1/3, 1/3, 1/3) and
    1/3; a large negative bias of the third class comes as near to 1/2 as one likes.
    """
    rng = np.random.default_rng(1)
    x = np.hstack([rng.standard_normal((20, 2)), np.ones((20, 1))])
    bound = linear_smoothness(x, "softmax")
    for classes in (2, 3, 4):
        labels = rng.integers(classes, size=20).astype(float)
        gradient = softmax_gradient(x, labels, classes)
        for scale in (0.1, 1.0, 4.0):
            theta = scale * rng.standard_normal(3 * classes)
            assert curvature(gradient, theta) <= bound * (1 + 1e-6)
    two = softmax_gradient(x, np.zeros(20), 2)
    three = softmax_gradient(x, np.zeros(20), 3)
    assert curvature(two, np.zeros(6)) == pytest.approx(bound, rel=1e-6)
    assert curvature(three, np.zeros(9)) == pytest.approx(bound * 2 / 3, rel=1e-6)
    biased = np.zeros((3, 3))
    biased[2, 2] = -25.0
    assert curvature(three, biased.ravel()) == pytest.approx(bound, rel=1e-6)


def test_squared_smoothness_is_the_hessian_of_least_squares() -> None:
    """Equality everywhere: L_m of the problem is λ_max of its constant Hessian."""
    problem = random_least_squares(3, workers=2, samples=7, size=4)
    for m in range(2):
        bound = linear_smoothness(problem.features[m], "squared")
        assert bound == pytest.approx(problem.local_smoothness[m])
        at = np.random.default_rng(m).standard_normal(4)
        found = curvature(partial(problem.local_gradient, m), at)
        assert found == pytest.approx(bound, rel=1e-6)


@dataclass
class Quadratic(Oracle):
    """∇ℓ(θ) = Hθ, for one of several Hessians drawn as the batch."""

    hessians: Sequence[F64]

    num_examples = 1

    def draw(self, rng: np.random.Generator) -> int:
        return int(rng.integers(len(self.hessians)))

    def gradient(self, theta: F32, batch: int) -> F32:
        return (self.hessians[batch] @ theta).astype(np.float32)


def pseudo_lipschitz(oracle: LocalSteps, batch: list[int], size: int) -> float:
    """Lipschitz constant of a linear pseudo-gradient: its largest singular value."""
    columns = [oracle.gradient(e, batch) for e in np.eye(size, dtype=np.float32)]
    return float(np.linalg.norm(np.array(columns, np.float64).T, ord=2))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_local_steps_smoothness_bounds_the_pseudo_gradient(steps: int) -> None:
    """u(θ) = θ − Π(I − ηH_t)θ + const: ‖Π(I − ηH_t) − I‖ ≤ (1 + ηL)^H − 1.

    Attained by the concave quadratic H = −L·I, and by any with one step. A convex
    one with ηL ≤ 1 has 1 − (1 − ηL)^H: less, and never above 1, so that the constant
    is far from tight there. With minibatches L is the largest over the batches.
    """
    rng, eta, size = np.random.default_rng(steps), 0.2, 4
    hessians = []
    for _ in range(3):
        a = rng.standard_normal((size, size))
        hessians.append((a + a.T) / 2)
    largest = max(float(np.linalg.norm(h, ord=2)) for h in hessians)
    bound = local_steps_smoothness(largest, eta, steps)
    oracle = LocalSteps(Quadratic(hessians), steps, eta)
    for seed in range(20):
        batch = oracle.draw(np.random.default_rng(seed))
        assert len(batch) == steps
        found = pseudo_lipschitz(oracle, batch, size)
        assert 0 < found <= bound * (1 + 1e-6)

    for sign in (-1.0, 1.0):
        single = LocalSteps(Quadratic([sign * 3.0 * np.eye(size)]), steps, eta)
        one = np.ones(size, np.float32)
        gradient = single.gradient(one, [0] * steps)  # u = θ − θ_local, and its sign
        np.testing.assert_allclose(gradient, 1 - (1 - sign * eta * 3.0) ** steps, 1e-5)
        found = pseudo_lipschitz(single, [0] * steps, size)
        bound = local_steps_smoothness(3.0, eta, steps)
        if sign < 0 or steps == 1:
            assert found == pytest.approx(bound, rel=1e-5)
        else:
            assert found == pytest.approx(1 - (1 - eta * 3.0) ** steps, rel=1e-5)
            assert found < min(1.0, 0.6 * bound)
