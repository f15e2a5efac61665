"""Sparse local SGD through the Message API: k by device, growing batches, faults."""

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.client import ClientApp

from experiments.inprocess import InProcessGrid
from lasg_flwr.strategies import LasgStrategy
from tests.problems.flower_app import vector_of
from tests.problems.resuming import Stop
from tests.problems.servers import h_of
from tests.problems.sparse_flower import (
    FLOWER,
    ROUNDS,
    SIZE,
    TOTALS,
    WORKERS,
    Watch,
    client_fn,
    engine,
    start,
    state_of,
)

pytestmark = pytest.mark.flower


@pytest.mark.parametrize("shuffle", [None, 1])
def test_flower_takes_the_engines_path_to_the_bit(shuffle: int | None) -> None:
    expected = engine()
    grid = InProcessGrid(ClientApp(client_fn), WORKERS, shuffle)
    assert start(LasgStrategy(**FLOWER), grid).tobytes() == expected.tobytes()


class FaultyGrid(InProcessGrid):
    """Loses, repeats and delays messages, from the second round on."""

    def __init__(self, seed: int) -> None:
        super().__init__(ClientApp(client_fn), WORKERS)
        self.dice = np.random.default_rng(seed)
        self.late: list[Message] = []
        self.lost = self.delayed = self.repeated = 0
        self.calm = True

    def send_and_receive(
        self, messages: Any, *, timeout: float | None = None
    ) -> list[Message]:
        replies = [r for m in messages for r in self._exchange(m)]
        self.calm = False
        if self.late and self.dice.random() < 0.5:
            replies.append(self.late.pop(0))
        return replies

    def _exchange(self, message: Message) -> list[Message]:
        fate = 1.0 if self.calm else self.dice.random()
        if fate < 0.1:
            return []
        replies = [self._deliver(message)]
        if fate < 0.3:
            self.lost += 1
            return []
        if fate < 0.4:
            self.delayed += 1
            self.late.append(replies.pop())
        elif fate < 0.5:
            self.repeated += 1
            replies.append(self._deliver(message))
        return replies


class Watched(LasgStrategy):
    """A strategy whose server is watched."""

    watch: Watch

    def begin(self, initial_arrays: ArrayRecord) -> None:
        super().begin(initial_arrays)
        self.watch = Watch(self.server)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_or_doubled_through_a_faulty_grid(seed: int) -> None:
    TOTALS.clear()
    grid, server = FaultyGrid(seed), Watched(**FLOWER, fail_limit=None)
    start(server, grid)
    assert min(grid.lost, grid.delayed, grid.repeated) > 3
    assert server.server.ledger.refused["other round"] > 0
    for context in grid.contexts.values():
        key = int(context.node_config["partition-id"])
        server.watch.check(key, state_of(context))


def test_server_and_clients_restart_and_go_on_to_the_bit(tmp_path: Any) -> None:
    """The server from its checkpoint; clients are built anew for every message."""
    expected = engine()
    grid = InProcessGrid(ClientApp(client_fn), WORKERS)
    arrays = vector_of(SIZE)

    def die(round_: int, arrays: ArrayRecord) -> None:
        if round_ == 15:
            raise Stop

    with pytest.raises(Stop):
        LasgStrategy(**FLOWER, checkpoint_dir=tmp_path).start(
            grid, arrays, ROUNDS, evaluate_fn=die
        )
    assert start(LasgStrategy(**FLOWER, checkpoint_dir=tmp_path), grid).tobytes() == (
        expected.tobytes()
    )


def test_a_server_restored_to_an_older_round_forgets_what_came_after(
    tmp_path: Any,
) -> None:
    """Devices go back to the error before the uploads that the server forgot."""
    TOTALS.clear()
    grid = InProcessGrid(ClientApp(client_fn), WORKERS)
    arrays = vector_of(SIZE)

    def die(round_: int, arrays: ArrayRecord) -> None:
        if round_ == 17:  # one round after the last checkpoint
            raise Stop

    options: dict[str, Any] = {"checkpoint_dir": tmp_path, "checkpoint_every": 8}
    with pytest.raises(Stop):
        LasgStrategy(**FLOWER, **options).start(grid, arrays, ROUNDS, evaluate_fn=die)
    before = [state_of(context) for context in grid.contexts.values()]
    server = LasgStrategy(**FLOWER, **options)
    server.begin(arrays)
    assert server.server.round == 16
    messages = list(server.configure_train(17, arrays, ConfigRecord(), grid))
    server.aggregate_train(17, list(grid.send_and_receive(messages)))
    assert server.server.ledger.refused.total() == 0
    for context, old in zip(grid.contexts.values(), before, strict=True):
        new, kept = state_of(context).pending, old.committed
        # the same θ and batches give the same u; the forgotten one stays in e
        update = old.pending.memory.lost - h_of(kept)
        np.testing.assert_allclose(
            new.memory.lost, h_of(kept) + 2 * update, rtol=0, atol=1e-12
        )
        assert np.abs(update).max() > 0
