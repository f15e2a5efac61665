"""Workers whose nodes are gone for long are taken out of the sum."""

import pytest
from flwr.app import ArrayRecord
from flwr.client import ClientApp

from experiments.inprocess import InProcessGrid
from lasg_flwr.strategies import LasgStrategy
from tests.problems.flower_app import ORACLES, client_fn, initial_arrays

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
