"""Theorems 1 to 3 and the Lyapunov function, measured beside what they state."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from lasg_flwr import LasgServer, simulate
from lasg_flwr.codecs import codec_from
from lasg_flwr.oracle import Oracle
from lasg_flwr.rules import PS, WK1, WK2, Always, Rule
from lasg_flwr.server import RoundReport
from lasg_flwr.steps import (
    SGD,
    Schedule,
    decreasing_step,
    largest_c,
    square_root_step,
)
from lasg_flwr.vectors import F64

from . import tables
from .bounds import Constants, gamma, lyapunov
from .config import Study
from .store import Result, Store
from .tables import Row
from .theorems_plot import plot
from .theory import OneSided, Problem, make

LAZY = ("wk1", "wk2", "ps")
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


def cases(study: Study) -> Iterator[Case]:
    """Return all runs; SGD has no c, and the one-sided case none but the theorem's."""
    o = study.options
    variants = [("sgd", "theorem"), *((m, c) for c in ("theorem", "practical")
                                     for m in LAZY)]  # fmt: skip
    for seed in range(study.seeds):
        for method, c in variants:
            for theorem in ("1", "2"):
                for rounds in o["rounds"]:
                    yield Case(theorem, method, c, rounds, seed)
            yield Case("3", method, c, o["rounds_3"], seed)
            if c == "theorem":
                yield Case("lyapunov", method, c, o["lyapunov_rounds"], seed)
        for method in ("sgd", "wk2"):
            yield Case("3 one-sided", method, "theorem", o["one_sided_rounds"], seed)


def planned(study: Study) -> int:
    """Return how many results are needed."""
    return len(list(cases(study)))


def produce(study: Study, store: Store, out: Path) -> list[Path]:
    """Write ``rates.csv``, ``slopes.csv``, ``lyapunov.csv`` and ``theorems.png``."""
    found: dict[Case, list[Row]] = {}
    for case in cases(study):
        spec = {"kind": "theorem", "options": study.options, "case": asdict(case)}
        name = f"theorem {case.theorem} {case.method} {case.c} K={case.rounds}"
        result = store.get(spec, name, partial(measure, case, study.options))
        found[case] = result["points"]
    rows = _means(found)
    rates = [r for r in rows if r["theorem"] != "lyapunov"]
    descent = [r for r in rows if r["theorem"] == "lyapunov"]
    tables.write(out / "rates.csv", rates)
    tables.write(out / "lyapunov.csv", descent)
    slopes = _slopes(rates)
    tables.write(out / "slopes.csv", slopes)
    plot(study, rates, descent, out / "theorems.png")
    names = ("rates.csv", "slopes.csv", "lyapunov.csv", "theorems.png")
    return [out / name for name in names]


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
    return [
        {
            "K": int(k),
            "measured": _around(excess, k),
            "stated": known.excess(problem.mu, step.k0, k),
            "uploads": uploads,
        }
        for k in _checkpoints(case.rounds)
    ]


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
    return [
        {
            "K": int(k),
            "measured": _around(excess, k),
            "stated": known.excess(smoothness, step.k0, k),
            "uploads": uploads,
        }
        for k in _checkpoints(case.rounds)
    ]


def _lyapunov(case: Case, options: Any) -> list[Row]:
    """V^k beside what (33), summed up, allows with (50): V^0 − Σ (η/2)‖∇L‖² + kRη²."""
    problem = problem_of("1", options)
    workers, delay, smoothness = (
        options["workers"],
        options["max_delay"],
        problem.smoothness,
    )
    step = square_root_step(options["c_eta"], case.rounds, smoothness, workers, delay)
    c = 0.0
    if case.method != "sgd":
        c = largest_c(1, step(0), smoothness, workers, delay, delay)
    thetas, uploads = trajectory(problem, case, step, options)
    excess = problem.loss(thetas) - problem.least_loss
    weights = gamma(step(0), c, smoothness, workers, delay, delay)
    values = lyapunov(excess, thetas, weights)
    squares = np.square(problem.gradient(thetas)).sum(axis=1)
    known = Constants(smoothness, workers, delay, problem.variance, 0.0)
    descent = step(0) / 2 * np.concatenate([[0.0], np.cumsum(squares[:-1])])
    noise = known.noise() * step(0) ** 2 * np.arange(len(values))
    return [
        {
            "K": int(k),
            "measured": float(values[k]),
            "stated": float(values[0] - descent[k] + noise[k]),
            "uploads": uploads,
        }
        for k in _checkpoints(case.rounds)
    ]


def trajectory(
    problem: Problem, case: Case, step: Schedule, options: Any, codec: str = "dense"
) -> tuple[F64, float]:
    """Return θ^0 ... θ^K and the share of uploads of a case's run."""
    delay = options["max_delay"]
    theorem = int(case.theorem) if case.theorem.isdigit() else 1
    c = None
    if case.c == "theorem":
        args = (problem.smoothness, problem.workers, delay, delay)
        c = largest_c(theorem, step(0), *args)
    rules: dict[str, Rule] = {
        "sgd": Always(),
        "wk1": WK1(c, delay, delay),
        "wk2": WK2(c, delay, delay),
        "ps": PS(c, delay, delay, smoothness=problem.local_smoothness),
    }
    start = np.zeros(problem.size)
    return _run(
        problem.oracles(),
        rules[case.method],
        step,
        case.rounds,
        case.seed,
        start,
        codec,
    )


def _run(
    oracles: list[Oracle],
    rule: Rule,
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


def _checkpoints(rounds: int) -> list[int]:
    """Return rounds equally far apart on a logarithmic axis, the last included."""
    points = np.unique(np.geomspace(5, rounds, POINTS).astype(int))
    return [int(k) for k in points]


def _around(values: F64, k: int) -> float:
    """Return the mean over the tenth of the rounds that ends at k: less noise."""
    return float(values[max(0, k - k // 10) : k + 1].mean())


def _means(found: dict[Case, list[Row]]) -> list[Row]:
    """Return the mean over the seeds, with deviation, of each case and K."""
    groups: dict[tuple[str, str, str, int], list[Row]] = {}
    for case, points in found.items():
        for point in points:
            key = (case.theorem, case.method, case.c, point["K"])
            groups.setdefault(key, []).append(point)
    rows = []
    for (theorem, method, c, k), points in groups.items():
        measured = [p["measured"] for p in points]
        stated = tables.mean(p["stated"] for p in points)
        rows.append(
            {
                "theorem": theorem,
                "method": method,
                "c": c,
                "K": k,
                "seeds": len(points),
                "measured": tables.mean(measured),
                "deviation": tables.deviation(measured),
                "stated": stated,
                "measured_over_stated": tables.mean(measured) / stated,
                "upload_share": tables.mean(p["uploads"] for p in points),
            }
        )
    return rows


def _slopes(rates: list[Row]) -> list[Row]:
    """Return the slope of log measured against log K: stated −1/2, and −1 for 3.

    Theorem 3 is about K + K_0 for K large; the second half of the checkpoints counts.
    """
    rows = []
    stated = {"1": -0.5, "2": -0.5, "3": -1.0, "3 one-sided": -1.0}
    for key in dict.fromkeys((r["theorem"], r["method"], r["c"]) for r in rates):
        mine = [r for r in rates if (r["theorem"], r["method"], r["c"]) == key]
        if key[0].startswith("3"):
            mine = mine[len(mine) // 2 :]
        x, y, bound = (
            np.log([r[name] for r in mine]) for name in ("K", "measured", "stated")
        )
        rows.append(
            {
                "theorem": key[0],
                "method": key[1],
                "c": key[2],
                "slope": float(np.polyfit(x, y, 1)[0]),
                "slope_of_the_stated_bound": float(np.polyfit(x, bound, 1)[0]),
                "stated_rate": stated[key[0]],
                "largest_measured_over_stated": max(
                    r["measured_over_stated"] for r in mine
                ),
                "upload_share": mine[-1]["upload_share"],
            }
        )
    return rows
