"""Twenty workers through a network that loses, repeats and delays, and restarts.

Each round loses requests (10 %) and replies (10 %), repeats or delays (5 %), restarts
workers without state (1 %), and the server from its last checkpoint (every 500 rounds).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message
from flwr.client import ClientApp

from experiments.inprocess import InProcessGrid
from lasg_flwr.protocol.broadcast import Broadcast
from lasg_flwr.strategies import LasgStrategy
from tests.problems.chaos import (
    CALM,
    WORKERS,
    Book,
    Chaos,
    Odds,
    loss,
    oracles,
    sum_error,
)
from tests.problems.flower_app import client_fn_of, vector_of
from tests.problems.least_squares import Running
from tests.problems.resuming import Stop

SETUPS: dict[str, dict[str, Any]] = {
    "wk2": {"rule": "wk2"},
    "wk2 topk": {"rule": "wk2", "codec": "topk:k=3"},
    "wk2 topk sum-only": {
        "rule": "wk2",
        "codec": "topk:k=3",
        "server_memory": "sum-only",
    },
    "lag gradient": {"rule": "lag", "memory": "gradient"},
    "pse sum-only, buffers": {
        "rule": "pse",
        "server_memory": "sum-only",
        "buffers": np.zeros(Running.width),
    },
    "wk1": {"rule": "wk1"},
    "coded downloads": {
        "rule": "wk2",
        "codec": "topk:k=3",
        "downlink": "topk:k=8",
        "buffers": np.zeros(Running.width),
    },
}
LONGEST_IDLE = 101  # D, and one: then everybody has been forced


@pytest.fixture(autouse=True)
def _steps_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors are so short that steps would never pay; make the model cost more."""
    monkeypatch.setattr(Broadcast, "dense_bytes", property(lambda self: 1000))


def _check(seed: int, rounds: int, options: dict[str, Any]) -> str:
    chaos, calm = Chaos(seed, Odds(), **options), Chaos(seed, CALM, **options)
    chaos.run(rounds)
    calm.run(rounds)
    assert chaos.worst <= 1e-9
    assert chaos.longest_idle <= LONGEST_IDLE
    assert chaos.wipes > 0.1 * rounds
    assert chaos.lost > rounds / 3
    assert chaos.strays > rounds / 8
    assert chaos.server.ledger.refused["other round"] > 0
    coded = options.get("downlink") is not None
    assert (chaos.paths > rounds) == (chaos.server.ledger.step_bytes > 0) == coded
    relative = chaos.final_loss / calm.final_loss - 1
    assert abs(relative) <= 0.02, f"loss off by {relative:.2%}"
    return (
        f"seed {seed}: worst sum error {chaos.worst:.1e}, loss {chaos.final_loss:.5f} "
        f"({relative:+.2%}), longest time without an upload {chaos.longest_idle} "
        f"rounds, {chaos.restores} restores, {chaos.wipes} restarts, {chaos.lost} "
        f"messages lost, {chaos.strays} late or repeated"
    )


@pytest.mark.parametrize("name", SETUPS)
def test_chaos_in_the_engine(name: str) -> None:
    _check(0, 1000, SETUPS[name])


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SETUPS)
def test_long_chaos_in_the_engine(name: str, seed: int) -> None:
    print(name, _check(seed, 10_000, SETUPS[name]))


def test_the_sum_check_sees_a_small_error() -> None:
    chaos = Chaos(0, CALM)
    chaos.run(5)
    assert sum_error(chaos.server, chaos.book.held(chaos.server)) < 1e-12
    chaos.server.sum.total[0] *= 1 + 1e-6
    assert sum_error(chaos.server, chaos.book.held(chaos.server)) > 1e-9


class FaultyGrid(InProcessGrid):
    """Loses, repeats and delays messages, and restarts clients without state."""

    def __init__(self, app: ClientApp, odds: Odds, seed: int) -> None:
        super().__init__(app, WORKERS)
        self.odds = odds
        self.dice = np.random.default_rng([seed, 98])
        self.late: list[Message] = []
        self.wipes = 0

    def _happens(self, probability: float) -> bool:
        return bool(self.dice.random() < probability)

    def send_and_receive(
        self, messages: Any, *, timeout: float | None = None
    ) -> list[Message]:
        for context in self.contexts.values():
            if self._happens(self.odds.restart):
                self.wipes += 1
                context.state.clear()
        replies = [r for m in messages for r in self._exchange(m)]
        if self.late and self._happens(0.3):
            replies.append(self.late.pop(0))
        self.requests.clear()
        return replies

    def _exchange(self, message: Message) -> list[Message]:
        if self._happens(self.odds.request_lost):
            return []
        replies = [self._deliver(message)]
        if self._happens(self.odds.stray):
            replies.append(self._deliver(message))
        if self._happens(self.odds.reply_lost):
            return replies[1:]
        if self._happens(self.odds.stray):
            self.late.append(replies.pop(0))
        return replies


def _grid_run(
    folder: Path | None, odds: Odds, seed: int, rounds: int, **options: Any
) -> tuple[float, float, int, int]:
    problem = oracles(seed)

    grid = FaultyGrid(ClientApp(client_fn_of(problem.__getitem__)), odds, seed)
    losses: list[float] = []
    worst, restores, last = 0.0, 0, -1

    def watch(round_: int, arrays: ArrayRecord) -> None:
        nonlocal worst, last
        assert round_ >= 0
        server = strategy.server
        worst = max(worst, sum_error(server, Book().held(server)))
        if round_ > 0.8 * rounds:
            losses.append(loss(problem, arrays["theta"].numpy()))
        last = round_
        if grid._happens(odds.server):
            raise Stop

    start = vector_of(problem[0].size)
    while last < rounds:
        strategy = LasgStrategy(
            checkpoint_dir=folder,
            checkpoint_every=50,
            step=0.05,
            seed=seed,
            fraction_evaluate=0.0,
            **options,
        )
        try:
            strategy.start(grid, start, rounds, evaluate_fn=watch)
        except Stop:
            restores += 1
    return worst, float(np.mean(losses)), restores, grid.wipes


def _check_grid(folder: Path, seed: int, rounds: int, **options: Any) -> str:
    worst, found, restores, wipes = _grid_run(folder, Odds(), seed, rounds, **options)
    expected = _grid_run(None, CALM, seed, rounds, **options)[1]
    relative = found / expected - 1
    assert worst <= 1e-9
    assert wipes > 0.1 * rounds
    assert abs(relative) <= 0.02, f"loss off by {relative:.2%}"
    return f"seed {seed}: {worst:.1e}, {relative:+.2%}, {restores} restores"


@pytest.mark.parametrize(("downlink", "rounds"), [("dense", 400), ("topk:k=5", 200)])
def test_chaos_through_the_grid(
    tmp_path: Path, downlink: str, rounds: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR", "flwr")
    _check_grid(tmp_path, 1, rounds, codec="topk:k=3", downlink=downlink)


@pytest.mark.long
@pytest.mark.parametrize("downlink", ["dense", "topk:k=5"])
@pytest.mark.parametrize("seed", range(2))
def test_long_chaos_through_the_grid(
    tmp_path: Path, seed: int, downlink: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR", "flwr")
    print(_check_grid(tmp_path, seed, 10_000, codec="topk:k=3", downlink=downlink))
