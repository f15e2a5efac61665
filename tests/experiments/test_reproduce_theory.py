"""The problems, bounds and counts behind the theorems, Table I and the claims."""

from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import tables
from experiments.reproduce import claims, config, theorem_runs, theorems
from experiments.reproduce.claims import Claim
from experiments.reproduce.study import ConfigError
from experiments.reproduce.table1 import Case, count_vectors, measure
from experiments.reproduce.theory import (
    Constants,
    OneSided,
    Problem,
    Regulariser,
    gamma,
    lyapunov,
    make,
)
from lasg_flwr.optim.schedules import largest_c

RESULTS = Path(__file__).parents[2] / "experiments" / "results" / "reproduce"
REGULARISERS: tuple[Regulariser, ...] = ("nonconvex", "convex")


def problem(regulariser: Regulariser) -> Problem:
    return make(regulariser, 0.1, workers=3, examples=20, size=4, batch=5)


@pytest.mark.parametrize("regulariser", REGULARISERS)
def test_the_gradient_is_that_of_the_loss_and_the_mean_of_the_oracles(
    regulariser: Regulariser,
) -> None:
    p, rng = problem(regulariser), np.random.default_rng(0)
    for theta in 2 * rng.standard_normal((5, 4)):
        steps = 1e-6 * np.eye(4)
        numeric = (p.loss(theta + steps) - p.loss(theta - steps)) / 2e-6
        np.testing.assert_allclose(p.gradient(theta), numeric, atol=1e-8)
        every = [
            o.gradient(theta.astype(np.float32), np.arange(20)) for o in p.oracles()
        ]
        np.testing.assert_allclose(np.mean(every, axis=0), p.gradient(theta), atol=1e-5)


@pytest.mark.parametrize("regulariser", REGULARISERS)
def test_the_constants_are_bounds(regulariser: Regulariser) -> None:
    """L, Σσ² and B hold at random points, and not by orders of magnitude."""
    p, rng = problem(regulariser), np.random.default_rng(1)
    slopes, variances, seconds = [], [], []
    for theta in rng.standard_normal((200, 4)):
        near = theta + 1e-4 * rng.standard_normal(4)
        gap = np.linalg.norm(p.gradient(theta) - p.gradient(near))
        slopes.append(float(gap / np.linalg.norm(theta - near)))
        total, second = 0.0, 0.0
        for oracle in p.oracles():
            singles = np.array(
                [oracle.gradient(theta.astype("f4"), np.array([i])) for i in range(20)],
                np.float64,
            )
            total += float(singles.var(axis=0).sum()) / p.batch
            second = max(second, float(np.square(singles).sum(axis=1).mean()))
        variances.append(total)
        seconds.append(second)
    assert 0.3 * p.smoothness < max(slopes) <= p.smoothness
    assert 0.1 * p.variance < max(variances) <= p.variance
    if regulariser == "nonconvex":
        assert 0.1 * p.second_moment < max(seconds) <= p.second_moment


def test_the_convex_problem_meets_the_pl_condition_and_knows_its_least_loss() -> None:
    p, rng = problem("convex"), np.random.default_rng(2)
    for theta in 3 * rng.standard_normal((50, 4)):
        excess = float(p.loss(theta)) - p.least_loss
        assert 0 < excess <= float(np.square(p.gradient(theta)).sum()) / (2 * p.mu)


def test_the_nonconvex_problem_is_not_convex() -> None:
    """Its Hessian has a negative eigenvalue somewhere: far out, where r'' = −1/2."""
    p = make("nonconvex", 1.0, workers=1, examples=20, size=2, batch=1)
    at, step = np.array([1.0, 1.0]), 1e-4
    rows = [(p.gradient(at + step * e) - p.gradient(at)) / step for e in np.eye(2)]
    assert np.linalg.eigvalsh(np.array(rows)).min() < 0


def test_one_sided_is_the_mean_of_its_samples() -> None:
    case = OneSided(epsilon=0.3)
    at = np.array([0.7], np.float32)
    mean = (case.gradient(at, 0) + case.gradient(at, 1)) / 2
    slope = case.smoothness * (0.7 - case.minimiser)
    assert float(mean[0]) == pytest.approx(slope, rel=1e-6)
    assert float(case.excess(np.array(case.minimiser))) == 0.0


def test_gamma_solves_the_linear_equations_of_the_proof() -> None:
    """(η + 1/(2L)) c/d + √M·L/12 + 6cγ_1η²/d + γ_{d+1} − γ_d = 0, γ_{D+1} = 0."""
    smoothness, workers, delay, step = 2.0, 4, 5, 0.01
    c = largest_c(1, step, smoothness, workers, delay, delay) / step**2
    weights = gamma(step, c, smoothness, workers, delay, delay)
    constant = (step + 1 / (2 * smoothness)) * c / delay
    constant += sqrt(workers) * smoothness / 12 + 6 * c * weights[0] * step**2 / delay
    after = np.append(weights[1:], 0.0)
    np.testing.assert_allclose(constant + after - weights, 0, atol=1e-12)
    assert weights[0] <= sqrt(workers) * delay * smoothness / 3


def test_lyapunov_adds_the_weighted_past_steps() -> None:
    """V^k = excess + Σ_d γ_d ‖θ^{k+1−d} − θ^{k−d}‖², written out."""
    rng = np.random.default_rng(0)
    thetas, weights = rng.standard_normal((7, 3)), np.array([3.0, 2.0, 1.0])
    excess = rng.random(7)
    values = lyapunov(excess, thetas, weights)
    for k in range(7):
        expected = excess[k]
        for d in (1, 2, 3):
            if k - d >= 0:
                move = thetas[k + 1 - d] - thetas[k - d]
                expected += weights[d - 1] * float(move @ move)
        assert values[k] == pytest.approx(expected)


def test_the_bounds_are_those_of_the_proofs() -> None:
    """(53) with η = c_η/√K, written with its own two terms; (62)."""
    smoothness, workers, delay, variance, start = 1.5, 4, 5, 2.0, 0.7
    known = Constants(smoothness, workers, delay, variance, start)
    rounds, c_eta = 10_000, 1.0
    noise = (9 + 24 * 2 * delay) * smoothness / workers**2 * variance
    expected = 2 / (c_eta * 100) * start + c_eta / 100 * noise
    found = known.mean_square_gradient(c_eta / 100, rounds)
    assert found == pytest.approx(expected)
    mu, k0 = 0.5, 80.0
    first = (k0 - 1) ** 2 * start + 4 * (noise / 2) * rounds / mu**2
    assert known.excess(mu, k0, rounds) == pytest.approx(first / (rounds + k0 - 1) ** 2)


# --- Table I -----------------------------------------------------------------------

OPTIONS = {"rounds": 40, "learning_rate": 0.1, "max_delay": 20, "d_max": 10}


@pytest.mark.parametrize("method", ["sgd", "wk1", "wk2", "ps", "pse"])
def test_memory_of_the_server_grows_as_table_1_says(method: str) -> None:
    """O(p) where only the sum is kept, but for PS and PSE; M more with every h_m."""
    few, many = (
        measure(Case(method, m, 30, "sum-only"), OPTIONS)["server_vectors"]
        - measure(Case(method, m, 30, "sum-only"), OPTIONS)["of_which_iterates"]
        for m in (3, 9)
    )
    assert few == many == 3
    held = measure(Case(method, 9, 30, "per-worker"), OPTIONS)
    assert held["of_which_h"] == 9
    assert held["server_vectors"] - held["of_which_iterates"] == 11
    assert (held["most_iterates"] > 0) is (method in ("ps", "pse"))


def test_vectors_are_counted_once_and_by_their_length() -> None:
    shared = np.zeros(5)
    held = {"a": (shared, [shared]), "b": np.zeros(5, np.float32), "c": np.zeros(4)}
    assert count_vectors(held, 5) == 2


def test_slopes_are_fitted_and_theorem_3_counts_from_its_middle_on() -> None:
    def rows(theorem: str, power: float, early: float) -> list[dict[str, Any]]:
        return [
            {"theorem": theorem, "method": "sgd", "c": "theorem", "K": k,
             "measured": k**power * (early if k < 100 else 1), "stated": 2 * k**-0.5,
             "measured_over_stated": k / 1000, "upload_share": 0.5}
            for k in (10, 30, 100, 300, 1000)
        ]  # fmt: skip

    found = theorems._slopes([*rows("1", -0.5, 1), *rows("3", -1, 50)])
    assert [row["slope"] for row in found] == pytest.approx([-0.5, -1])
    assert found[0]["slope_of_the_stated_bound"] == pytest.approx(-0.5)
    assert [row["stated_rate"] for row in found] == [-0.5, -1.0]
    assert found[0]["largest_measured_over_stated"] == 1


def test_theorems_are_averaged_over_seeds_at_each_k() -> None:
    def case(seed: int) -> theorem_runs.Case:
        return theorem_runs.Case("1", "wk2", "theorem", 100, seed)

    def point(value: float) -> dict[str, Any]:
        return {"K": 100, "measured": value, "stated": 4.0, "uploads": 0.5}

    (row,) = theorems._means({case(0): [point(1.0)], case(1): [point(3.0)]})
    assert (row["seeds"], row["measured"], row["measured_over_stated"]) == (2, 2, 0.5)
    assert row["deviation"] == pytest.approx(sqrt(2))


# --- claims ------------------------------------------------------------------------


def write_runs(folder: Path, counts: dict[tuple[str, str], list[int | None]]) -> None:
    rows = [
        {"dataset": d, "partition": "iid", "run": run, "seed": s, "uploads": count}
        for (d, run), found in counts.items()
        for s, count in enumerate(found)
    ]
    tables.write(folder / "runs.csv", rows)


def verdict(root: Path, **options: Any) -> Any:
    claim = Claim("text", "I", ["fig"], "uploads", run="WK", base="SGD", **options)
    return claims.check(claim, root)


def test_a_claim_agrees_in_part_where_some_places_do(tmp_path: Path) -> None:
    write_runs(
        tmp_path / "fig",
        {
            ("a", "SGD"): [100, 100],
            ("a", "WK"): [10, 5],
            ("b", "SGD"): [100, 100],
            ("b", "WK"): [50, 50],
        },
    )
    row = verdict(tmp_path, low=10)
    assert row["verdict"] == "agrees in part"
    assert row["agree"] == "1 of 2"
    assert row["range_over_places"] == "2 to 15"
    assert "b iid 2" in row["note"]
    assert verdict(tmp_path, low=1)["verdict"] == "agrees"
    assert verdict(tmp_path, low=20)["verdict"] == "differs"


def test_a_missing_count_is_not_reached_and_missing_results_are_not_run(
    tmp_path: Path,
) -> None:
    write_runs(tmp_path / "fig", {("a", "SGD"): [100, 100], ("a", "WK"): [10, None]})
    row = verdict(tmp_path, low=1)
    assert row["verdict"] == "differs"
    assert "not reached" in row["note"]
    write_runs(tmp_path / "fig", {("a", "SGD"): [None], ("a", "WK"): [10]})
    assert verdict(tmp_path, low=1)["verdict"] == "agrees"  # only SGD never gets there
    nothing = verdict(tmp_path / "elsewhere", low=1)
    assert nothing["verdict"] == claims.NOT_RUN
    assert nothing["ours"] == ""


def test_a_claim_about_differences_sums_and_single_rows(tmp_path: Path) -> None:
    rows = [
        {"run": run, "kind": kind, "seed": 0, "up": up, "down": 1}
        for run, kind, up in [("SGD", "x", 3), ("WK", "x", 7), ("WK", "y", 90)]
    ]
    tables.write(tmp_path / "fig" / "runs.csv", rows)

    def row(**options: Any) -> Any:
        return claims.check(Claim("text", "I", ["fig"], **options), tmp_path)

    only = {"where": {"kind": "x"}, "by": ["kind"], "run": "WK"}
    assert row(column="up", **only)["ours"] == "7"
    assert row(column="up+down", **only)["ours"] == "8"
    less = row(column="up", base="SGD", value="difference", low=4, high=4, **only)
    assert less["ours"] == "4"
    assert less["verdict"] == "agrees"
    both = row(column="up", run="WK", by=["kind"], low=8)
    assert both["range_over_places"] == "7 to 90"
    assert both["agree"] == "1 of 2"


def test_a_place_counts_by_its_mean_or_by_its_largest_value(tmp_path: Path) -> None:
    write_runs(tmp_path / "fig", {("a", "WK"): [10, 30]})
    for largest, ours in ((False, "20"), (True, "30")):
        claim = Claim("t", "I", ["fig"], "uploads", run="WK", largest=largest)
        assert claims.check(claim, tmp_path)["ours"] == ours


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "uploadz"}, "fig/runs.csv has no column 'uploadz'"),
        ({"run": "PSE"}, "no row of fig is of run 'PSE'"),
        ({"base": "LAG"}, "no row of fig is of the base 'LAG'"),
        ({"by": ["place"]}, "no column 'place'"),
        ({"run": "", "by": ["dataset"]}, "two rows of fig are one place and seed"),
    ],
)
def test_a_slip_in_a_claim_is_an_error_and_no_verdict(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_runs(tmp_path / "fig", {("a", "SGD"): [100], ("a", "WK"): [10]})
    good = {"text": "t", "section": "I", "figures": ["fig"], "column": "uploads"}
    with pytest.raises(ConfigError, match=message):
        claims.check(Claim(**{**good, "run": "WK", "base": "SGD", **options}), tmp_path)


def test_every_claim_was_checked_on_the_results_in_the_tree() -> None:
    rows = tables.read(RESULTS / "claims" / "claims.csv")
    texts = [raw["text"] for raw in config.load("claims").options["claims"]]
    assert [row["claim"] for row in rows] == texts
    assert not [row["claim"] for row in rows if row["verdict"] == claims.NOT_RUN]
