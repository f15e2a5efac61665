"""What the theorems state: problems that meet their assumptions, and their bounds."""

from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lasg_flwr.oracles.base import Oracle
from lasg_flwr.vectors import F32, F64

Regulariser = Literal["nonconvex", "convex"]

SLOPE = 3 * sqrt(3) / 8
"""Largest |r'| of r(t) = t²/(1 + t²), at t = 1/√3."""


@dataclass(frozen=True)
class Problem:
    """Logistic regression on M workers, plus λ Σ θ²/(1 + θ²) or λ/2 ‖θ‖².

    The logistic part has bounded gradients, so that Assumptions 1 to 4 hold at every θ.
    `x` of shape (M, n, p) are features, `y` labels −1 and +1, `weight` is λ, and
    `batch` how many examples a minibatch has, drawn independently of one another.
    """

    x: F64
    y: F64
    weight: float
    regulariser: Regulariser
    batch: int

    @property
    def workers(self) -> int:
        """M."""
        return len(self.x)

    @property
    def size(self) -> int:
        """Number p of parameters."""
        return int(self.x.shape[2])

    @cached_property
    def local_smoothness(self) -> tuple[float, ...]:
        """L_m = λ_max(X_mᵀX_m/n)/4 + λ max|r''|; |r''| ≤ 2, or 1 if convex."""
        return tuple(self._smoothness(x) for x in self.x)

    @cached_property
    def smoothness(self) -> float:
        """L, likewise, of the mean loss."""
        return self._smoothness(self.x.reshape(-1, self.size))

    def _smoothness(self, x: F64) -> float:
        top = float(np.linalg.eigvalsh(x.T @ x / len(x))[-1])
        return top / 4 + self.weight * (2 if self.regulariser == "nonconvex" else 1)

    @property
    def mu(self) -> float:
        """μ of the Polyak-Łojasiewicz condition: λ, if convex."""
        return self.weight

    @cached_property
    def variance(self) -> float:
        """Bound of Σ_m σ_m²: E‖σ(·) x‖² ≤ mean ‖x‖², divided by the batch."""
        return float(np.square(self.x).sum(axis=2).mean(axis=1).sum()) / self.batch

    @cached_property
    def second_moment(self) -> float:
        """B of Assumption 4 (nonconvex only): (√mean ‖x‖² + λ √p max|r'|)²."""
        data = float(np.square(self.x).sum(axis=2).mean(axis=1).max())
        return (sqrt(data) + self.weight * sqrt(self.size) * SLOPE) ** 2

    def loss(self, theta: F64) -> F64:
        """L at θ of shape (..., p)."""
        margins = np.einsum("mni,...i->...mn", self.x, theta) * self.y
        data = np.logaddexp(0, -margins).mean(axis=(-2, -1))
        square = np.square(theta)
        own = square / (1 + square) if self.regulariser == "nonconvex" else square / 2
        result: F64 = data + self.weight * own.sum(axis=-1)
        return result

    def gradient(self, theta: F64) -> F64:
        """∇L at θ of shape (..., p)."""
        margins = np.einsum("mni,...i->...mn", self.x, theta) * self.y
        slopes = -self.y / (1 + np.exp(margins))
        count = self.x.shape[0] * self.x.shape[1]
        data = np.einsum("...mn,mni->...i", slopes, self.x) / count
        result: F64 = data + self._own_gradient(theta)
        return result

    def _own_gradient(self, theta: F64) -> F64:
        if self.regulariser == "convex":
            return self.weight * theta
        slope: F64 = 2 * theta / np.square(1 + np.square(theta))
        return self.weight * slope

    @cached_property
    def least_loss(self) -> float:
        """L* if convex, by gradient descent to rounding; else 0, which is below it."""
        if self.regulariser == "nonconvex":
            return 0.0
        theta = np.zeros(self.size)
        for _ in range(2000):
            theta -= self.gradient(theta) / self.smoothness
        return float(self.loss(theta))

    def oracles(self) -> list[Oracle]:
        """One oracle for each worker."""
        return [ProblemOracle(self, m) for m in range(self.workers)]


@dataclass(frozen=True)
class ProblemOracle(Oracle):
    """One worker of a `Problem`."""

    problem: Problem
    worker: int

    @property
    def num_examples(self) -> int:
        """Number of the worker's examples."""
        return int(self.problem.x.shape[1])

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw indices, independent of one another."""
        return rng.integers(self.num_examples, size=self.problem.batch)

    def gradient(self, theta: F32, batch: NDArray[np.int64]) -> F32:
        """Return the gradient on a minibatch."""
        x, y = self.problem.x[self.worker, batch], self.problem.y[self.worker, batch]
        at = theta.astype(np.float64)
        slopes = -y / (1 + np.exp((x @ at) * y))
        data: F64 = slopes @ x / len(y)
        return (data + self.problem._own_gradient(at)).astype(np.float32)


def make(
    regulariser: Regulariser, weight: float, workers: int, examples: int, size: int,
    batch: int,
) -> Problem:  # fmt: skip
    """Return a problem with Gaussian data; each worker has labels of its own model."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((workers, examples, size)) / sqrt(size / 4)
    truths = rng.standard_normal(size) + 0.5 * rng.standard_normal((workers, size))
    odds = 1 / (1 + np.exp(-2 * np.einsum("mni,mi->mn", x, truths)))
    y = np.where(rng.random(odds.shape) < odds, 1.0, -1.0)
    return Problem(x, y, weight, regulariser, batch)


@dataclass(frozen=True)
class OneSided(Oracle):
    """One worker, two equally likely samples: where WK2 sees only the first move.

    ∇ℓ(θ; 0) = 2θ and ∇ℓ(θ; 1) = ε²θ + 1. WK2's left-hand side is 4Δ² at the first
    sample and ε⁴Δ² at the second, so that the second is hardly ever uploaded unless
    forced: the stale gradients are a biased sample, against (39).
    """

    epsilon: float = 0.05

    num_examples = 2

    @property
    def smoothness(self) -> float:
        """L = μ = 1 + ε²/2."""
        return 1 + self.epsilon**2 / 2

    @property
    def minimiser(self) -> float:
        """θ* = −1/(2 + ε²)."""
        return -1 / (2 + self.epsilon**2)

    def draw(self, rng: np.random.Generator) -> int:
        """Draw a sample."""
        return int(rng.integers(2))

    def gradient(self, theta: F32, batch: int) -> F32:
        """Return the gradient of the sample."""
        if batch == 0:
            return np.float32(2) * theta
        return np.float32(self.epsilon**2) * theta + np.float32(1)

    def excess(self, theta: F64) -> F64:
        """L − L*."""
        return 0.5 * self.smoothness * np.square(theta - self.minimiser)

    def variance(self, theta: F64) -> float:
        """Return the largest σ² over the given θ: (difference)²/4."""
        gap = 2 * theta - self.epsilon**2 * theta - 1
        return float(np.square(gap).max()) / 4


@dataclass(frozen=True)
class Constants:
    """What the bounds depend on: L, M, D, Σ_m σ_m² and L(θ^0) − L*.

    Under quantization the variance is Σ_m (σ_m² + σ_Q²/2).
    """

    smoothness: float
    workers: int
    max_delay: int
    variance: float
    start: float

    def noise(self, quantized: bool = False) -> float:
        """R / Σσ²-free: the factor of η² Σσ², (9/2 + 12√M·D) L/M².

        The proof of Theorem 2 goes the same way with 12 for 9 in (31) and √M·L/6 for
        √M·L/12 in (30), hence γ_1 ≤ 5√M·D·L/12, and (6 + 16√M·D) L/M².
        """
        root = sqrt(self.workers) * self.max_delay
        factor = 6 + 16 * root if quantized else 4.5 + 12 * root
        return factor * self.smoothness / self.workers**2 * self.variance

    def mean_square_gradient(
        self, step: float, rounds: int, quantized: bool = False
    ) -> float:
        """Return the bound of (1/K) Σ E‖∇L(θ^k)‖²: (53), first line."""
        return 2 / (rounds * step) * self.start + 2 * step * self.noise(quantized)

    def excess(self, mu: float, k0: float, rounds: int) -> float:
        """Return the bound of E L(θ^K) − L*: (62)."""
        first = (k0 - 1) ** 2 * self.start
        return (first + 4 * self.noise() * rounds / mu**2) / (rounds + k0 - 1) ** 2


def gamma(
    step: float, c: float, smoothness: float, workers: int, max_delay: int, d_max: int
) -> F64:
    """Return γ_1 ... γ_D of the Lyapunov function (32), as Theorem 1's proof has them.

    γ_d − γ_{d+1} is the same for all d and γ_{D+1} = 0, so that γ_d = γ_1 (D+1−d)/D,
    with γ_1 from (49).

    Examples
    --------
    >>> gamma(0.1, 0.0, 1.0, workers=4, max_delay=3, d_max=3).round(3).tolist()
    [0.5, 0.333, 0.167]
    """
    share = c * max_delay / d_max
    above = (step + 1 / (2 * smoothness)) * share
    above += sqrt(workers) * max_delay * smoothness / 12
    first = above / (1 - 6 * share * step**2)
    weights: F64 = first * np.arange(max_delay, 0, -1) / max_delay
    return weights


def lyapunov(excess: F64, thetas: F64, weights: F64) -> F64:
    """Return V^0 ... V^K of (32); θ^{−d} = θ^0.

    `excess` is L(θ^k) − L*, `thetas` θ^0 ... θ^K, `weights` γ_1 ... γ_D.
    """
    squares = np.square(np.diff(thetas, axis=0)).sum(axis=1)
    past = np.convolve(squares, weights)[: len(squares)]
    values: F64 = excess + np.concatenate([[0.0], past])
    return values
