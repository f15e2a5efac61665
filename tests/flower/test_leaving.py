"""Workers whose nodes are gone for long are taken out of the sum."""

from typing import Any, ClassVar

import pytest
from flwr.app import ArrayRecord, Context, RecordDict
from flwr.client import ClientApp

from experiments.inprocess import InProcessGrid
from lasg_flwr.strategies import LasgStrategy
from tests.problems.flower_app import (
    ORACLES,
    client_fn,
    initial_arrays,
    one_differs,
)
from tests.problems.least_squares import LeastSquares

pytestmark = pytest.mark.flower


class Leaving(InProcessGrid):
    """Some nodes are connected for the first rounds alone."""

    def __init__(self, rounds: int) -> None:
        super().__init__(ClientApp(client_fn), len(ORACLES))
        self.left = rounds

    def get_node_ids(self) -> list[int]:
        nodes = sorted(self.contexts)
        self.left -= 1
        return nodes if self.left >= 0 else nodes[2:]


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_a_worker_leaves_after_so_many_rounds(rounds: int) -> None:
    members = []

    def count(server_round: int, arrays: ArrayRecord) -> None:
        if server_round:
            members.append(strategy.server.sum.weight)

    strategy = LasgStrategy(
        "lag", step=0.05, leave_after=3, fraction_evaluate=0.0, seed=1
    )
    strategy.start(Leaving(rounds), initial_arrays(), 10, evaluate_fn=count)
    stay = rounds + 2  # round k is the last with them: they leave in round k + 3
    assert members == [5.0] * stay + [3.0] * (10 - stay)


class Failing(LeastSquares):
    """Fails from its fourth gradient on; counts by itself, as its client is anew."""

    calls: ClassVar[int] = 0

    def gradient(self, theta: Any, batch: Any) -> Any:
        Failing.calls += 1
        if Failing.calls > 3:
            raise RuntimeError("the disk is full")
        return super().gradient(theta, batch)


def test_a_client_that_fails_while_connected_is_out_after_2d_rounds() -> None:
    Failing.calls = 0
    weights: dict[int, float] = {}

    def look(round_: int, arrays: ArrayRecord) -> None:
        if round_:
            weights[round_] = strategy.server.sum.weight

    grid = InProcessGrid(ClientApp(one_differs(Failing)), len(ORACLES))
    strategy = LasgStrategy(
        "lag:max_delay=5,c=0", step=0.05, fraction_evaluate=0.0, fail_limit=None
    )
    strategy.start(grid, initial_arrays(), 20, evaluate_fn=look)
    assert [round_ for round_, w in weights.items() if w == 5.0] == list(range(1, 13))
    assert {w for round_, w in weights.items() if round_ > 12} == {4.0}
    assert not strategy.server.memory.in_sum(strategy.server.roster.records[1])


def test_a_node_that_claims_a_live_workers_key_gets_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    grid = InProcessGrid(ClientApp(client_fn), len(ORACLES), shuffle_seed=0)

    def add(round_: int, arrays: ArrayRecord) -> None:
        if round_ == 3:
            old = grid.contexts[993]
            grid.contexts[5] = Context(
                old.run_id, 5, dict(old.node_config), RecordDict(), {}
            )

    strategy = LasgStrategy("sgd", step=0.05, fraction_evaluate=0.0, fail_limit=None)
    result = strategy.start(grid, initial_arrays(), 10, evaluate_fn=add)
    assert strategy.server.roster.records[1].node == 993
    assert result.ledger.refused == {"duplicate key": 7}
    assert result.ledger.uploads == 10 * len(ORACLES)
    assert "key 1 is that of node 993, which is there" in caplog.text  # it was first
    assert "give each client its own partition-id" in caplog.text


def test_a_node_that_is_started_anew_gets_its_key_at_once() -> None:
    grid = InProcessGrid(ClientApp(client_fn), len(ORACLES))

    def restart(round_: int, arrays: ArrayRecord) -> None:
        if round_ == 3:
            old = grid.contexts.pop(993)
            grid.contexts[5] = Context(
                old.run_id, 5, dict(old.node_config), RecordDict(), {}
            )

    strategy = LasgStrategy("sgd", step=0.05, fraction_evaluate=0.0)
    result = strategy.start(grid, initial_arrays(), 10, evaluate_fn=restart)
    assert not result.ledger.refused
    assert strategy.server.roster.records[1].node == 5
    assert strategy.server.sum.weight == 5.0


def test_a_corrected_partition_id_is_taken_under_the_same_node() -> None:
    grid = InProcessGrid(ClientApp(client_fn), 4)  # keys 0 to 3

    def correct(round_: int, arrays: ArrayRecord) -> None:
        if round_ == 3:
            grid.contexts[993].node_config["partition-id"] = 4

    strategy = LasgStrategy("sgd", step=0.05, fraction_evaluate=0.0)
    result = strategy.start(grid, initial_arrays(), 10, evaluate_fn=correct)
    server = strategy.server
    assert result.ledger.refused == {"foreign key": 1}
    members = {r.key for r in server.roster.sorted() if server.memory.in_sum(r)}
    assert members == {0, 2, 3, 4}
    assert server.roster.records[4].node == 993
