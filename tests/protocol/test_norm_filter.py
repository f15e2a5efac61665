"""The bound on the length of uploads: what it refuses, learns from, and never keeps."""

from typing import Any

import numpy as np
import pytest

from lasg_flwr import LasgServer, Oracle, simulate
from lasg_flwr.protocol.norm_filter import NormFilter
from lasg_flwr.protocol.refusals import RefusedReply
from lasg_flwr.protocol.rounds import RoundReport
from lasg_flwr.vectors import F32


class Pull(Oracle):
    """Half the squared distance from a centre, a number."""

    num_examples = 1
    size = 1

    def __init__(self, centre: float, scale: float = 1.0) -> None:
        self.centre, self.scale = np.float32(centre), np.float32(scale)

    def draw(self, rng: np.random.Generator) -> None:
        return None

    def gradient(self, theta: F32, batch: None) -> F32:
        return np.asarray(self.scale * (theta - self.centre), np.float32)


class Still(Pull):
    """Is content everywhere."""

    def gradient(self, theta: F32, batch: None) -> F32:
        return np.zeros(1, np.float32)


def test_a_median_of_0_refuses_nobody() -> None:
    workers = [Still(0), Still(0), Pull(3.0)]
    result = simulate(
        workers, np.full(1, 40.0), rounds=400, rule="sgd", step=0.3, norm_bound=10
    )
    assert not result.ledger.refused
    assert abs(float(result.theta[0]) - 3.0) < 1e-3


def test_the_median_follows_workers_that_all_move_on() -> None:
    """Gradients that grow by more than the bound at once are refused for one round."""
    norm_filter = NormFilter(3.0)
    lengths = [1.0, 1.0, 1.0, 1.0]
    refused = []
    for k in range(6):
        if k == 2:
            lengths = [100.0, 110.0, 120.0, 1.0]
        refused.append(0)
        for key, length in enumerate(lengths):
            try:
                norm_filter.check(key, "full", np.array([length], np.float32))
            except RefusedReply:
                refused[-1] += 1
        norm_filter.settle(range(4))
    assert refused == [0, 0, 3, 0, 0, 0]


def test_honest_workers_are_never_shut_out_for_good() -> None:
    """Of four, three start near their optimum and far from where theta will go."""
    centres, start = (0.1, 0.1, 0.1, 50.0), 0.0
    ages: list[int] = []

    def watch(server: LasgServer, report: RoundReport) -> None:
        for record in server.roster.sorted():
            if server.memory.in_sum(record):
                ages.append(report.round - record.round)

    result = simulate(
        [Pull(c) for c in centres],
        np.full(1, start),
        rounds=400,
        rule="wk2:max_delay=5",
        step=0.1,
        norm_bound=10,
        callback=watch,
    )
    assert max(ages) < 2 * 5
    assert abs(float(result.theta[0]) - np.mean(centres)) < 0.2


@pytest.mark.parametrize("server_memory", ["per-worker", "sum-only"])
def test_who_is_refused_until_d_is_taken_out(server_memory: Any) -> None:
    """A liar's honest first gradient is not reused for ever."""

    class Liar(Pull):
        calls = 0

        def gradient(self, theta: F32, batch: None) -> F32:
            self.calls += 1
            honest = super().gradient(theta, batch)
            return honest if self.calls < 3 else np.float32(1e6) + honest

    members: list[int] = []

    def count(server: LasgServer, report: RoundReport) -> None:
        members.append(int(server.sum.weight))

    result = simulate(
        [Pull(0.5), Pull(1.0), Pull(1.5), Liar(40.0)],
        np.zeros(1),
        rounds=60,
        rule="sgd:max_delay=5",
        step=0.1,
        norm_bound=10,
        server_memory=server_memory,
        callback=count,
    )
    assert members[0] == 4
    assert members[-1] == 3
    assert result.ledger.refused["too long"] > 10
    assert abs(float(result.theta[0]) - 1.0) < 0.05


def test_strangers_keys_take_bounded_memory() -> None:
    norm_filter = NormFilter(2.0)
    for key in range(3):
        norm_filter.check(key, "full", np.ones(1, np.float32))
    norm_filter.settle(range(3))
    for key in range(3, 2000):
        with pytest.raises(RefusedReply, match="too long"):
            norm_filter.check(key, "full", np.full(1, 9, np.float32), node=7)
    assert len(norm_filter._new) == 1
    norm_filter.settle(range(3))
    assert norm_filter.norms["full"].keys() == {0, 1, 2, 1999}
    norm_filter.settle(range(3))
    assert norm_filter.norms["full"].keys() == {0, 1, 2}


def test_the_innovations_of_others_are_no_measure_for_a_full_upload() -> None:
    norm_filter = NormFilter(2.0)
    for key in range(3):
        norm_filter.check(key, "innovation", np.full(1, 0.1, np.float32))
    norm_filter.settle(range(3))
    norm_filter.check(3, "full", np.ones(1, np.float32))
