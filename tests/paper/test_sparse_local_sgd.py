"""Sparse local SGD: Lemmas 1 to 3 of the appendix, at every local iteration."""

from typing import Any

import numpy as np
import pytest

from experiments.sparse_diagnostics import Iteration, SparseRun
from lasg_flwr import simulate
from lasg_flwr.codecs.assignment import codec_of
from lasg_flwr.oracles.base import Oracle
from lasg_flwr.oracles.batches import BatchSchedule, ScheduledBatches
from lasg_flwr.oracles.local import LocalSteps
from lasg_flwr.protocol import WorkerState
from lasg_flwr.random import keyed_generator
from tests.problems.least_squares import coarse, sized
from tests.problems.servers import h_of

WORKERS = 4
FLOAT32 = float(np.finfo(np.float32).eps)
TOP_K = ((1, 2, 0.5, 6), (0.2, 5), (3,), (1, 1, 1, 8))


class Faults:
    """Which devices are away, and whose upload is lost, in each round.

    Parameters
    ----------
    seed : int
        Of the dice.
    away, lost : float
        Probabilities, for each device and round from the second on.
    in_a_row : int
        Most losses of one device without an upload that arrives in between.
    """

    def __init__(self, seed: int, away: float, lost: float, in_a_row: int) -> None:
        self.dice = np.random.default_rng(seed)
        self.probabilities = away, lost
        self.in_a_row = in_a_row
        self.row = [0] * WORKERS
        self.total = 0
        self.first = True

    def draw(self) -> dict[str, list[int]]:
        away, lost = self.dice.random((2, WORKERS)) < np.array(
            self.probabilities
        ).reshape(2, 1)
        if self.first:
            away[:] = lost[:] = False
            self.first = False
        found: list[int] = []
        for m in range(WORKERS):
            if away[m]:
                continue
            self.row[m] = self.row[m] + 1 if lost[m] else 0
            if self.row[m] > self.in_a_row:
                self.row[m] = 0
            elif lost[m]:
                found.append(m)
        self.total += len(found)
        return {"away": list(np.flatnonzero(away)), "lost": found}


def random_run(seed: int, oracles: Any = None) -> tuple[SparseRun, int]:
    """Return a run of random H, k_m, ρ, b^(0), and its H."""
    rng = np.random.default_rng([seed, 5])
    steps = int(rng.integers(1, 7))
    growth = float(rng.choice([1.0, 1.01, 1.3]))
    run = SparseRun(
        sized(WORKERS, size=8, seed=seed) if oracles is None else oracles,
        np.zeros(8),
        steps=steps,
        learning_rate=float(rng.choice([0.02, 0.05])),
        top_k=TOP_K[seed % len(TOP_K)],
        schedule=BatchSchedule(int(rng.integers(1, 5)), growth),
        seed=seed,
    )
    return run, steps


def play(run: SparseRun, rounds: int, faults: Faults | None = None) -> list[Iteration]:
    return [
        row
        for _ in range(rounds)
        for row in run.round(**({} if faults is None else faults.draw()))
    ]


@pytest.mark.parametrize("growth", [1.0, 1.1])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("faulty", [False, True])
def test_lemma_1_where_float32_is_exact(
    steps: int, growth: float, faulty: bool
) -> None:
    """mean ŵ − w̃ = mean e to 1e-10, with nothing rounded: η, g, M are dyadic.

    A mean over three of the four devices is not, and is rounded.
    """
    run = SparseRun(
        coarse(WORKERS, size=8, seed=steps),
        np.zeros(8),
        steps=steps,
        learning_rate=1 / 8,
        top_k=(1, 2, 0.5, 6),
        schedule=BatchSchedule(2, growth),
    )
    faults = Faults(steps, 0.2, 0.2, 10) if faulty else None
    rows = play(run, 60, faults)
    assert [row.iteration for row in rows] == list(range(60 * steps))
    size = max(1.0, float(np.abs(run.server.theta).max()))
    largest = (2 * steps + 2) * 60 * FLOAT32 * size if faulty else 0.0
    assert all(row.rounding <= largest for row in rows)
    assert max(row.memory_gap for row in rows) <= 1e-10
    assert max(np.abs(run.error(m)).max() for m in range(WORKERS)) > 0.1
    if faults is not None:
        assert faults.total > 20


@pytest.mark.parametrize("seed", range(12))
def test_lemma_1_in_ordinary_runs(seed: int) -> None:
    """The same to 1e-10 up to what float32 rounds away, and that is as little."""
    run, steps = random_run(seed)
    faults = Faults(seed, 0.2, 0.2, 10)
    rows = play(run, 60, faults if seed % 2 else None)
    assert max(row.memory_gap for row in rows) <= 1e-10
    largest = max(1.0, float(np.abs(run.server.theta).max()))
    for row in rows:
        rounded = 2 * row.iteration + 2 * (row.iteration // steps + 1)
        assert row.rounding <= rounded * FLOAT32 * largest
    assert rows[-1].rounding > 0


def test_lemma_1_sees_a_lost_memory() -> None:
    run, _ = random_run(0)
    assert max(row.memory_gap for row in play(run, 10)) <= 1e-10
    run.devices[0].worker.state = WorkerState()
    assert play(run, 1)[0].memory_gap > 1e-3


@pytest.mark.parametrize("seed", range(24))
def test_lemmas_2_and_3_with_the_measured_gradient(seed: int) -> None:
    """Without faults or with absent devices, for any k_m, H and ρ."""
    run, _ = random_run(seed)
    rows = play(run, 60, Faults(seed, 0.3, 0.0, 0) if seed % 2 else None)
    for row in rows:
        assert row.deviation <= row.deviation_bound * (1 + 1e-5)
        assert row.error <= row.error_bound * (1 + 1e-5)
    assert max(row.error for row in rows) > 0
    assert rows[-1].largest_gradient > 0


@pytest.mark.parametrize("seed", range(12))
def test_with_lost_uploads_lemma_2_holds_and_a_wider_bound_on_the_memory(
    seed: int,
) -> None:
    """‖e_m‖ ≤ (2δ_m + 1) η G L H if at most L − 1 uploads in a row are lost."""
    run, steps = random_run(seed)
    faults = Faults(seed, 0.1, 0.4, in_a_row=2)
    for _ in range(60):
        for row in run.round(**faults.draw()):
            assert row.deviation <= row.deviation_bound * (1 + 1e-5)
        reach = run.learning_rate * run.largest_gradient * 3 * steps
        for m, device in enumerate(run.devices):
            error = float(np.linalg.norm(run.error(m)))
            assert error <= (2 * device.delta + 1) * reach * (1 + 1e-5)
    assert faults.total > 20


def test_lemma_3_does_not_survive_lost_uploads() -> None:
    """Dense uploads, δ = 1: what three lost ones leave exceeds 2ηGH."""
    oracles = coarse(WORKERS, size=8, seed=3)
    start = np.full(8, 50.0)
    run = SparseRun(oracles, start, steps=1, learning_rate=1 / 64, top_k=(8,))
    run.round()
    broken = False
    for _ in range(4):
        broken |= any(row.error > row.error_bound for row in run.round(lost=[0]))
    assert broken


def test_the_engine_follows_a_loop_written_by_hand() -> None:
    """H steps, k by device, growing batches: Algorithm of the appendix, to the bit."""
    steps, rate, cycle = 3, np.float32(0.05), "topk:k=1;topk:k=2;topk:fraction=0.5"
    schedule, oracles = BatchSchedule(2, 1.05), sized(5)
    theta, errors = np.zeros(6, np.float32), np.zeros((5, 6))
    for k in range(30):
        mean = np.zeros(6)
        for m, oracle in enumerate(oracles):
            rng, local = keyed_generator(7, m, k), theta
            batches = [
                oracle.draw_batch(rng, schedule.size(k * steps + h, 20))
                for h in range(steps)
            ]
            for batch in batches:
                local = local - rate * oracle.gradient(local, batch)
            total = errors[m] + (theta - local)
            codec = codec_of(cycle, m)
            decoded = codec.decode(codec.encode(total.astype(np.float32)), 6)
            errors[m] = total - decoded
            mean += decoded
        theta = (theta - mean / 5).astype(np.float32)
    wrapped: list[Oracle] = [
        LocalSteps(ScheduledBatches(o, schedule), steps, float(rate)) for o in oracles
    ]
    options: dict[str, Any] = {"rule": "sgd", "codec": cycle, "memory": "error"}
    result = simulate(wrapped, np.zeros(6), rounds=30, step=1.0, seed=7, **options)
    assert result.theta.tobytes() == theta.tobytes()
    for m, worker in enumerate(result.workers):
        assert worker.state.pending is not None
        np.testing.assert_array_equal(h_of(worker.state.pending), errors[m])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be an integer >= 1"),
        ({"steps": 1.5}, "steps must be an integer >= 1"),
        ({"learning_rate": 0.0}, "learning_rate must be finite and > 0"),
        ({"top_k": (7,)}, r"choose k in \[1, 6\]"),
        ({"top_k": (0.0,)}, r"fraction must lie in \(0, 1\]"),
        ({"top_k": (1.5,)}, "k must be an integer >= 1"),
        ({"top_k": ()}, "unknown codec ''"),
    ],
)
def test_senseless_settings_are_refused(change: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"steps": 2, "learning_rate": 0.1, "top_k": (1,)}
    with pytest.raises(ValueError, match=message):
        SparseRun(sized(2), np.zeros(6), **{**settings, **change})
