"""The rate of Theorem 1 (appendix): mean squared gradient norm against T.

All devices hold the same data, f_m = F, as the proof needs; they draw minibatches of
their own. With η = θ√M/√T ≤ 1/(2L),

    (1/MT) Σ_t Σ_m ‖∇f_m(ŵ_m^(t))‖² ≤ 4(F(w^(0)) − F*) / (θ√(MT))
        + 8ρθLσ² / ((ρ − 1) b^(0) √M T^{3/2}) + (4δ² + 1) 8Mθ²L²G²H² / T.

The second term is (16) without the M that it has too many, as (15) gives it. A batch
capped at the worker's data is the whole of it and has no variance, so the cap breaks
nothing. G and σ² are measured over the run, L and F* computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import sqrt
from typing import Any

import numpy as np

from lasg_flwr import Oracle
from lasg_flwr.oracles.batches import BatchSchedule
from lasg_flwr.vectors import F32, F64

from .sparse_diagnostics import SparseRun

_SIGMOID_CURVATURE = 1 / (6 * sqrt(3))
"""Largest |s''| of the sigmoid s."""


@dataclass(frozen=True)
class RateProblem(Oracle):
    """A linear classifier with a smooth loss of the margin z = y xᵀw.

    - convex: log(1 + exp(−z)) + λ/2 ‖w‖², L = λ_max(XᵀX/n)/4 + λ;
    - non-convex: 1/(1 + exp(z)), L = λ_max(XᵀX/n)/(6√3), F* ≥ 0.

    `signed`, shape (n, p), are the examples y x; `batch_size` is what a minibatch has
    where no schedule says otherwise.
    """

    signed: F64
    convex: bool
    l2: float = 0.01
    batch_size: int = 1

    @property
    def name(self) -> str:
        """What the loss is called."""
        return "logistic loss" if self.convex else "sigmoid loss"

    @property
    def num_examples(self) -> int:
        """N."""
        return len(self.signed)

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw the indices of a minibatch."""
        return self.draw_batch(rng, self.batch_size)

    def draw_batch(self, rng: np.random.Generator, size: int) -> Any:
        """Draw the indices of `size` examples."""
        return rng.choice(len(self.signed), size, replace=False, shuffle=False)

    def gradient(self, theta: F32, batch: Any) -> F32:
        """Return the gradient of the mean loss over a minibatch."""
        signed, w = self.signed[batch], theta.astype(np.float64)
        gradient: F64 = self._slopes(signed @ w) @ signed / len(signed)
        gradient += self._decay * w
        return gradient.astype(np.float32)

    def squares(self, points: F64) -> tuple[F64, F64]:
        """Return ‖∇F‖² and E‖∇f(w; ξ) − ∇F‖², ξ one example, at points (N, p)."""
        slopes = self._slopes(points @ self.signed.T)
        mean = slopes @ self.signed / self.num_examples
        norms = np.sum(self.signed**2, axis=1)
        variances = slopes**2 @ norms / self.num_examples - np.sum(mean**2, axis=1)
        gradients = np.sum((mean + self._decay * points) ** 2, axis=1)
        return gradients, variances

    def loss(self, w: F64) -> float:
        """Return F(w)."""
        margins = self.signed @ w
        if self.convex:
            return float(np.logaddexp(0, -margins).mean() + self.l2 / 2 * w @ w)
        return float(np.mean(0.5 - 0.5 * np.tanh(margins / 2)))

    @cached_property
    def smoothness(self) -> float:
        """L."""
        covariance = self.signed.T @ self.signed / self.num_examples
        largest = float(np.linalg.eigvalsh(covariance)[-1])
        return largest / 4 + self.l2 if self.convex else largest * _SIGMOID_CURVATURE

    @cached_property
    def lowest(self) -> float:
        """A lower bound of F*: by gradient descent and strong convexity, or 0."""
        if not self.convex:
            return 0.0
        w = np.zeros(self.signed.shape[1])
        for _ in range(2000):
            w -= self._full_gradient(w) / self.smoothness
        gradient = self._full_gradient(w)
        return self.loss(w) - float(gradient @ gradient) / (2 * self.l2)

    def _full_gradient(self, w: F64) -> F64:
        signed = self.signed
        gradient: F64 = self._slopes(signed @ w) @ signed / len(signed)
        return gradient + self._decay * w

    @property
    def _decay(self) -> float:
        return self.l2 if self.convex else 0.0

    def _slopes(self, margins: F64) -> F64:
        """Return the derivative of the loss by the margin."""
        half = np.tanh(margins / 2)
        slopes: F64 = (half - 1) / 2 if self.convex else (half**2 - 1) / 4
        return slopes


def rate_problem(
    convex: bool, examples: int = 64, size: int = 10, seed: int = 0
) -> RateProblem:
    """Return a classification of Gaussian points, one label in ten wrong."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(examples, size))
    y = np.where(x @ rng.normal(size=size) > 0, 1.0, -1.0)
    y[: examples // 10] *= -1
    return RateProblem(y[:, None] * x, convex)


@dataclass(frozen=True)
class Setting:
    """The constants of a run: M, H, k_m, b^(0) and ρ > 1."""

    workers: int = 4
    steps: int = 4
    top_k: tuple[int | float, ...] = (0.3, 0.5, 3, 8)
    schedule: BatchSchedule = field(default_factory=lambda: BatchSchedule(2, 1.01))


def rate_rows(
    problem: RateProblem,
    horizons: Sequence[int],
    setting: Setting | None = None,
    seeds: Sequence[int] = (0,),
) -> list[dict[str, Any]]:
    """Run sparse local SGD for each T, and set the measured mean beside the bound.

    θ is the largest that keeps η = θ√M/√T ≤ 1/(2L) at the smallest T; the mean over
    runs with the seeds stands for the expectation.

    Returns
    -------
    list of dict
        A row for each T: task, T, η, the mean squared gradient norm, the bound and its
        three terms, and what it is made of.

    Raises
    ------
    ValueError
        If a T is no multiple of H, or ρ = 1, for which the bound says nothing.
    """
    setting = setting or Setting()
    if bad := [t for t in horizons if t < 1 or t % setting.steps]:
        raise ValueError(f"T must be a multiple of H = {setting.steps}, got {bad}")
    if setting.schedule.growth <= 1.0:
        raise ValueError("the bound of Theorem 1 needs ρ > 1")
    largest = 1 / (2 * problem.smoothness)
    theta = largest * sqrt(min(horizons) / setting.workers)
    return [_row(problem, horizon, theta, setting, seeds) for horizon in horizons]


def _row(
    problem: RateProblem,
    horizon: int,
    theta: float,
    setting: Setting,
    seeds: Sequence[int],
) -> dict[str, Any]:
    rate = theta * sqrt(setting.workers / horizon)
    runs = [_measure(problem, horizon, rate, setting, seed) for seed in seeds]
    measured = float(np.mean([run.square for run in runs]))
    largest = max(run.largest_gradient for run in runs)
    variance = max(run.variance for run in runs)
    terms = _terms(
        problem, horizon, theta, setting, runs[0].delta2, largest**2, variance
    )
    return {
        "task": problem.name,
        "T": horizon,
        "learning_rate": rate,
        "mean_squared_gradient": measured,
        "bound": sum(terms),
        **{f"bound_term_{i}": term for i, term in enumerate(terms, 1)},
        "L": problem.smoothness,
        "G": largest,
        "sigma2": variance,
        "delta": sqrt(runs[0].delta2),
        "theta": theta,
        "seeds": len(seeds),
    }


@dataclass(frozen=True)
class _Measured:
    square: float
    variance: float
    largest_gradient: float
    delta2: float


def _measure(
    problem: RateProblem, horizon: int, rate: float, setting: Setting, seed: int
) -> _Measured:
    run = SparseRun(
        [replace(problem) for _ in range(setting.workers)],
        np.zeros(problem.signed.shape[1]),
        steps=setting.steps,
        learning_rate=rate,
        top_k=setting.top_k,
        schedule=setting.schedule,
        seed=seed,
    )
    total = variance = 0.0
    for _ in range(horizon // setting.steps):
        run.round()
        points = np.concatenate([d.local.points for d in run.devices])
        squares, variances = problem.squares(points)
        total += float(squares.sum())
        variance = max(variance, float(variances.max()))
    delta2 = float(np.mean([d.delta**2 for d in run.devices]))
    mean = total / (horizon * setting.workers)
    return _Measured(mean, variance, run.largest_gradient, delta2)


def _terms(
    problem: RateProblem,
    horizon: int,
    theta: float,
    setting: Setting,
    delta2: float,
    g2: float,
    sigma2: float,
) -> tuple[float, float, float]:
    """Return the three terms of the bound."""
    workers, smooth = setting.workers, problem.smoothness
    rho, b0 = setting.schedule.growth, setting.schedule.initial
    excess = problem.loss(np.zeros(problem.signed.shape[1])) - problem.lowest
    scale = theta**2 * smooth**2 * g2 * setting.steps**2
    return (
        4 * excess / (theta * sqrt(workers * horizon)),
        8 * rho * theta * smooth * sigma2
        / ((rho - 1) * b0 * sqrt(workers) * horizon**1.5),
        (4 * delta2 + 1) * 8 * workers * scale / horizon,
    )  # fmt: skip


def slope(rows: Sequence[dict[str, Any]], name: str = "mean_squared_gradient") -> float:
    """Return the slope of log(`name`) against log T, by least squares."""
    x = np.log([row["T"] for row in rows])
    y = np.log([row[name] for row in rows])
    return float(np.polyfit(x, y, 1)[0])
