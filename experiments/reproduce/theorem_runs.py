"""One run of a theorem: what is measured, and what the theorem states for it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from lasg_flwr import LasgServer, simulate
from lasg_flwr.codecs import codec_from
from lasg_flwr.optim import SGD
from lasg_flwr.optim.schedules import (
    Schedule,
    decreasing_step,
    largest_c,
    square_root_step,
)
from lasg_flwr.oracles.base import Oracle
from lasg_flwr.protocol.rounds import RoundReport
from lasg_flwr.rules import PS, WK1, WK2, Always, Rule
from lasg_flwr.vectors import F64

from ..tables import Row
from .store import Result
from .theory import Constants, OneSided, Problem, gamma, lyapunov, make

POINTS = 40
"""Checkpoints of a trajectory that are kept."""


@dataclass(frozen=True)
class Case:
    """One run: a theorem, a rule, whose c, K and a seed."""

    theorem: str
    method: str
    c: str
    rounds: int
    seed: int


def measure(case: Case, options: Any) -> Result:
    """Run a case; ``points`` has rows of K, measured, stated and share of uploads."""
    kinds = {"3": _theorem_3, "lyapunov": _lyapunov, "3 one-sided": _one_sided}
    return {"points": kinds.get(case.theorem, _theorem_1_or_2)(case, options)}


@cache
def _problem(regulariser: Any, weight: float, shape: tuple[int, ...]) -> Problem:
    workers, examples, size, batch = shape
    return make(regulariser, weight, workers, examples, size, batch)


def problem_of(theorem: str, options: Any) -> Problem:
    """Return the problem of a theorem: convex for the third, else nonconvex."""
    shape = tuple(options[k] for k in ("workers", "examples", "size", "batch"))
    if theorem == "3":
        return _problem("convex", 0.2, shape)
    return _problem("nonconvex", 0.1, shape)


def _theorem_1_or_2(case: Case, options: Any) -> list[Row]:
    quantized = case.theorem == "2"
    problem = problem_of(case.theorem, options)
    workers, delay = options["workers"], options["max_delay"]
    codec = f"qsgd:bits={options['bits']}" if quantized else "dense"
    smoothness = problem.smoothness
    step = square_root_step(options["c_eta"], case.rounds, smoothness, workers, delay)
    variance = problem.variance
    if quantized:
        omega = codec_from(codec).omega(problem.size)
        variance += workers * (omega or 0.0) * problem.second_moment / 2
    start = float(problem.loss(np.zeros(problem.size))) - problem.least_loss
    known = Constants(smoothness, workers, delay, variance, start)
    thetas, uploads = trajectory(problem, case, step, options, codec)
    squares = np.square(problem.gradient(thetas[:-1])).sum(axis=1)
    return [
        {
            "K": case.rounds,
            "measured": float(squares.mean()),
            "stated": known.mean_square_gradient(step(0), case.rounds, quantized),
            "uploads": uploads,
        }
    ]


def _theorem_3(case: Case, options: Any) -> list[Row]:
    problem = problem_of("3", options)
    workers, delay = options["workers"], options["max_delay"]
    step = decreasing_step(problem.mu, problem.smoothness, workers, delay)
    start = float(problem.loss(np.zeros(problem.size))) - problem.least_loss
    known = Constants(problem.smoothness, workers, delay, problem.variance, start)
    thetas, uploads = trajectory(problem, case, step, options)
    excess = problem.loss(thetas) - problem.least_loss
    stated = partial(known.excess, problem.mu, step.k0)
    return _checkpoints(case.rounds, partial(_around, excess), stated, uploads)


def _one_sided(case: Case, options: Any) -> list[Row]:
    problem, delay = OneSided(), options["max_delay"]
    smoothness = problem.smoothness
    step = decreasing_step(smoothness, smoothness, 1, delay)
    c = largest_c(3, step(0), smoothness, 1, delay, 1)
    rule = Always() if case.method == "sgd" else WK2(c, 1, delay)
    start = np.array([problem.minimiser + 0.1])
    thetas, uploads = _run([problem], rule, step, case.rounds, case.seed, start)
    excess = problem.excess(thetas[:, 0])
    variance = problem.variance(thetas[:, 0])
    known = Constants(smoothness, 1, delay, variance, float(excess[0]))
    stated = partial(known.excess, smoothness, step.k0)
    return _checkpoints(case.rounds, partial(_around, excess), stated, uploads)


def _lyapunov(case: Case, options: Any) -> list[Row]:
    """V^k beside what (33), summed up, allows with (50): V^0 − Σ (η/2)‖∇L‖² + kRη²."""
    problem = problem_of("1", options)
    workers, delay = options["workers"], options["max_delay"]
    smoothness = problem.smoothness
    step = square_root_step(options["c_eta"], case.rounds, smoothness, workers, delay)
    c = 0.0
    if case.method != "sgd":
        c = largest_c(1, step(0), smoothness, workers, delay, delay) / step(0) ** 2
    thetas, uploads = trajectory(problem, case, step, options)
    excess = problem.loss(thetas) - problem.least_loss
    weights = gamma(step(0), c, smoothness, workers, delay, delay)
    values = lyapunov(excess, thetas, weights)
    squares = np.square(problem.gradient(thetas)).sum(axis=1)
    known = Constants(smoothness, workers, delay, problem.variance, 0.0)
    descent = step(0) / 2 * np.concatenate([[0.0], np.cumsum(squares[:-1])])
    noise = known.noise() * step(0) ** 2 * np.arange(len(values))
    allowed = values[0] - descent + noise
    return _checkpoints(case.rounds, values.__getitem__, allowed.__getitem__, uploads)


def trajectory(
    problem: Problem, case: Case, step: Schedule, options: Any, codec: str = "dense"
) -> tuple[F64, float]:
    """Return θ^0 ... θ^K and the share of uploads of a case's run."""
    delay = options["max_delay"]
    theorem = int(case.theorem) if case.theorem.isdigit() else 1
    c = 1.0
    if case.c == "theorem":
        args = (problem.smoothness, problem.workers, delay, delay)
        c = largest_c(theorem, step(0), *args)
    rules: dict[str, Rule[Any]] = {
        "sgd": Always(),
        "wk1": WK1(c, delay, delay),
        "wk2": WK2(c, delay, delay),
        "ps": PS(c, delay, delay, smoothness=problem.local_smoothness),
    }
    start = np.zeros(problem.size)
    rule = rules[case.method]
    return _run(problem.oracles(), rule, step, case.rounds, case.seed, start, codec)


def _run(
    oracles: list[Oracle],
    rule: Rule[Any],
    step: Schedule,
    rounds: int,
    seed: int,
    start: F64,
    codec: str = "dense",
) -> tuple[F64, float]:
    thetas = [start.astype(np.float32)]

    def keep(server: LasgServer, _: RoundReport) -> None:
        thetas.append(server.theta)

    result = simulate(
        oracles,
        thetas[0],
        rounds=rounds,
        callback=keep,
        rule=rule,
        codec=codec,
        memory="innovation" if codec == "dense" else "gradient",
        step=SGD(step),
        seed=seed,
    )
    share = result.ledger.uploads / (rounds * len(oracles))
    return np.array(thetas, np.float64), share


def _checkpoints(
    rounds: int,
    measured: Callable[[int], float],
    stated: Callable[[int], float],
    uploads: float,
) -> list[Row]:
    """Return rows equally far apart on a logarithmic axis, the last round included."""
    points = np.unique(np.geomspace(5, rounds, POINTS).astype(int))
    return [
        {
            "K": k,
            "measured": float(measured(k)),
            "stated": float(stated(k)),
            "uploads": uploads,
        }
        for k in points.tolist()
    ]


def _around(values: F64, k: int) -> float:
    """Return the mean over the tenth of the rounds that ends at k: less noise."""
    return float(values[max(0, k - k // 10) : k + 1].mean())
