"""The rate of Theorem 1 (appendix) on iid data, convex and non-convex."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.data import DataError
from experiments.reproduce.appendix import lemma_rows, write_lemmas, write_rate
from experiments.sparse_rate import (
    RateProblem,
    Setting,
    _measure,
    rate_problem,
    rate_rows,
    slope,
)
from experiments.tasks import Batch, build_task
from lasg_flwr.oracles.batches import BatchSchedule

HORIZONS = (64, 256, 1024)


def finite_difference(problem: RateProblem, w: Any) -> Any:
    step = 1e-6 * np.eye(w.size)
    return [(problem.loss(w + s) - problem.loss(w - s)) / 2e-6 for s in step]


@pytest.mark.parametrize("convex", [True, False])
def test_the_constants_are_what_they_are_called(convex: bool) -> None:
    """Gradients against differences, L and σ² against what is seen, F* from below."""
    problem, rng = rate_problem(convex), np.random.default_rng(1)
    everything = np.arange(problem.num_examples)
    points = rng.normal(size=(40, 10))
    gradients = []
    for w in points.astype(np.float32):
        full = problem.gradient(w, everything)
        np.testing.assert_allclose(full, finite_difference(problem, w), atol=1e-4)
        single = [problem.gradient(w, [i]) for i in everything]
        squares, variances = problem.squares(w[None].astype(float))
        assert squares[0] == pytest.approx(float(full @ full), rel=1e-4)
        spread = np.sum(np.var(single, axis=0))
        assert variances[0] == pytest.approx(spread, rel=1e-4)
        assert problem.loss(w.astype(float)) >= problem.lowest
        gradients.append(full.astype(float))
    ratios = [
        np.linalg.norm(gradients[i] - gradients[i - 1])
        / np.linalg.norm(points[i] - points[i - 1])
        for i in range(1, 40)
    ]
    assert max(ratios) <= problem.smoothness
    assert max(ratios) > problem.smoothness / 10


@pytest.mark.parametrize("convex", [True, False])
def test_the_mean_squared_gradient_falls_at_the_stated_rate(convex: bool) -> None:
    """Slope ≤ −1/2 with a margin of 0.05, and the corrected bound lies above."""
    rows = rate_rows(rate_problem(convex), HORIZONS)
    assert slope(rows) <= -0.45
    for row in rows:
        assert row["learning_rate"] <= 1 / (2 * row["L"]) * (1 + 1e-12)
        terms = [row[f"bound_term_{i}"] for i in (1, 2, 3)]
        assert row["bound"] == pytest.approx(sum(terms))
        assert 0 < row["mean_squared_gradient"] <= row["bound"]
    powers = [slope(rows, f"bound_term_{i}") for i in (1, 2, 3)]
    assert powers[0] == pytest.approx(-0.5, abs=1e-6)
    assert powers[1] == pytest.approx(-1.5, abs=0.4)  # σ² is measured
    assert powers[2] == pytest.approx(-1.0, abs=0.4)  # so is G


def test_a_constant_step_does_not_reach_the_rate() -> None:
    """What the slope test is worth: with η and b fixed, noise stops the descent."""
    problem = rate_problem(convex=True)
    setting = Setting(schedule=BatchSchedule(1, 1.0))
    rate = 1 / (2 * problem.smoothness)
    rows = [
        {
            "T": horizon,
            "mean_squared_gradient": _measure(
                problem, horizon, rate, setting, 0
            ).square,
        }
        for horizon in HORIZONS
    ]
    assert slope(rows) > -0.25


def test_a_problem_without_a_rate_is_refused() -> None:
    problem = rate_problem(convex=True)
    with pytest.raises(ValueError, match=r"multiple of H = 4, got \[65\]"):
        rate_rows(problem, (64, 65))
    flat = replace(Setting(), schedule=BatchSchedule(2, 1.0))
    with pytest.raises(ValueError, match="needs ρ > 1"):
        rate_rows(problem, (64,), flat)


def test_the_appendix_is_written_as_csv_and_plots(tmp_path: Path) -> None:
    try:
        task = build_task("digits", 4, "by-label", Batch(size=8))
    except DataError as error:
        pytest.skip(str(error))
    rows = lemma_rows(task, rounds=4)
    write_lemmas(rows, tmp_path)
    slopes = write_rate(rate_rows(rate_problem(False), (16, 64)), tmp_path)
    assert list(slopes) == ["sigmoid loss"]
    names = {"lemmas.csv", "lemmas.png", "rate.csv", "rate.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    with (tmp_path / "lemmas.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in table] == list(range(20))
    assert all(float(row["memory_gap"]) <= 1e-10 for row in table)
    assert all(float(row["error"]) <= float(row["error_bound"]) for row in table)
