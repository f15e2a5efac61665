"""A run ends at once when all nodes fail for good, and goes on otherwise."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Error, Message, MetricRecord
from flwr.app import RecordDict as Records
from flwr.client import Client, NumPyClient
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from experiments.inprocess import InProcessGrid
from lasg_flwr import AllNodesFailedError
from lasg_flwr.clients import lasg_mod
from lasg_flwr.strategies import LazyFedAvg

pytestmark = pytest.mark.flower

NODES, ROUNDS = 5, 8


def message_app(*mods: Any, fail: Callable[[Context], bool] | None = None) -> ClientApp:
    """Halves the model; raises where `fail` says so."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if fail is not None and fail(context):
            raise FileNotFoundError(f"no data at /data/{context.node_id}")
        arrays: Any = message.content["arrays"]
        model = ArrayRecord({"w": Array(arrays["w"].numpy() / 2)})
        metrics = MetricRecord({"num-examples": 3})
        content = Records({"arrays": model, "metrics": metrics})
        return Message(content, reply_to=message)

    return app


class Plain(NumPyClient):
    """A NumPyClient that knows nothing of this package."""

    def fit(self, parameters: Any, config: Any) -> Any:
        return [array * 2 for array in parameters], 3, {}


def plain_client(context: Context) -> Client:
    return Plain().to_client()


def run(app: ClientApp, **options: Any) -> tuple[Any, InProcessGrid]:
    grid = InProcessGrid(app, NODES)
    strategy = LazyFedAvg(fraction_evaluate=0.0, **options)
    start = ArrayRecord({"w": Array(np.ones(4, np.float32))})
    return (lambda: strategy.start(grid, start, ROUNDS)), grid


def refusing(message: Message, context: Context, call_next: Any) -> Message:
    error = Error(ErrorCode.MOD_FAILED_PRECONDITION, "I clip whole models.")
    return Message(error, reply_to=message)


def looks_at_config(message: Message, context: Context, call_next: Any) -> Message:
    _ = message.content["config"]
    return call_next(message, context)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("app", "cause", "rounds"),
    [
        (message_app(), "give the ClientApp mods=[lasg_mod]", 1),
        (ClientApp(plain_client), "give the ClientApp mods=[lasg_mod]", 1),
        (message_app(looks_at_config, lasg_mod), "as the first of its mods", 1),
        (message_app(lasg_mod, refusing), "remove them", 1),
        (message_app(lasg_mod, fail=lambda context: True), "no data at", 3),
    ],
    ids=["no-mod", "no-mod-older", "mod-order", "refusing-mod", "app-raises"],
)
def test_the_cause_is_the_last_line_and_the_exception(
    app: ClientApp, cause: str, rounds: int, caplog: pytest.LogCaptureFixture
) -> None:
    start, grid = run(app)
    with pytest.raises(AllNodesFailedError) as raised:
        start()
    assert cause in str(raised.value)
    assert len(grid.requests) == rounds * NODES
    assert cause in caplog.records[-1].getMessage()
    assert caplog.records[-1].levelno == logging.ERROR
    assert len(caplog.records) < 20 * (rounds + 1)


@pytest.mark.parametrize("bad", [refusing, None])
def test_one_bad_node_of_five_ends_nothing(bad: Any) -> None:
    def first(context: Context) -> bool:
        return context.node_config["partition-id"] == 0

    def on_the_first(message: Message, context: Context, call_next: Any) -> Message:
        if bad is not None and first(context):
            return bad(message, context, None)  # type: ignore[no-any-return]
        return call_next(message, context)  # type: ignore[no-any-return]

    app = message_app(lasg_mod, on_the_first, fail=None if bad else first)
    start, _ = run(app)
    assert start().ledger.uploads == ROUNDS * (NODES - 1)


def test_nodes_that_are_silent_may_come_back() -> None:
    start, grid = run(message_app(lasg_mod), round_seconds=0.01)
    grid.silent = set(grid.contexts)
    assert start().ledger.rounds == ROUNDS


def test_who_was_well_and_is_not_asked_keeps_the_run_alive() -> None:
    seen: list[int] = []

    def late(context: Context) -> bool:
        seen.append(context.node_id)
        return len(seen) > NODES + 2

    start, _ = run(message_app(lasg_mod, fail=late), fail_limit=None)
    with pytest.raises(AllNodesFailedError, match="no data at"):
        start()
    assert NODES + 2 < len(seen) <= 6 * NODES
