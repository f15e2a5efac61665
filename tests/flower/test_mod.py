"""`lasg_mod` around apps of both kinds takes the engine's path."""

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.client import Client, NumPyClient
from flwr.clientapp import ClientApp

from experiments.inprocess import InProcessGrid
from lasg_flwr import simulate
from lasg_flwr.clients import lasg_mod
from lasg_flwr.strategies import LasgResult, LasgStrategy
from lasg_flwr.vectors import F32
from tests.problems.least_squares import LeastSquares
from tests.problems.mod_apps import ORACLES, SIZE, Trained, mine

pytestmark = pytest.mark.flower

STEPS, RATE = 3, np.float32(0.05)


def train(oracle: LeastSquares, theta: F32) -> F32:
    """Local SGD as an app would write it, drawing from NumPy's global generator."""
    for _ in range(STEPS):
        batch = np.random.choice(oracle.num_examples, 4, replace=False)  # noqa: NPY002
        theta = theta - RATE * oracle.gradient(theta, batch)
    return theta


def split(theta: F32) -> list[Any]:
    return [theta[:4].reshape(2, 2).astype(np.float64), np.array(7), theta[4:]]


def join(arrays: list[Any]) -> F32:
    joined: F32 = np.concatenate([arrays[0].ravel(), arrays[2]]).astype(np.float32)
    return joined


def model_of(message: Message) -> list[Any]:
    return [a.numpy() for a in message.content.array_records["arrays"].values()]


NAMES = ("weight", "steps", "bias")


def message_app(replace: bool = False) -> ClientApp:
    app = ClientApp(mods=[lasg_mod])

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        assert "lasg.state" not in context.state
        runs: Any = context.state.setdefault("mine", MetricRecord({"runs": 0}))
        runs["runs"] += 1
        config: Any = message.content["config"]
        assert config["server-round"] >= 1
        if replace:
            context.state = RecordDict(dict(context.state))
        arrays = model_of(message)
        made = split(train(mine(context), join(arrays)))
        named = dict(zip(NAMES, made, strict=True))
        record = ArrayRecord({n: Array(np.asarray(a)) for n, a in named.items()})
        metrics = MetricRecord({"num-examples": 20, "loss": 1.5})
        content = RecordDict({"arrays": record, "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        assert "lasg.state" not in context.state
        arrays = model_of(message)
        loss, n, _ = mine(context).evaluate(join(arrays))
        metrics = MetricRecord({"num-examples": n, "eval_loss": loss})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


class Numbers(NumPyClient):
    def __init__(self, oracle: LeastSquares) -> None:
        self.oracle = oracle

    def fit(self, parameters: Any, config: Any) -> Any:
        made = split(train(self.oracle, join(parameters)))
        return made, self.oracle.num_examples, {"loss": 1.5}

    def evaluate(self, parameters: Any, config: Any) -> Any:
        loss, n, _ = self.oracle.evaluate(join(parameters))
        return loss, n, {}


def numpy_app() -> ClientApp:
    def client_fn(context: Context) -> Client:
        return Numbers(mine(context)).to_client()

    return ClientApp(client_fn=client_fn, mods=[lasg_mod])


def run(
    app: ClientApp, rule: str = "wk2", rounds: int = 15, **options: Any
) -> tuple[LasgResult, InProcessGrid]:
    grid = InProcessGrid(app, len(ORACLES))
    start = split(np.zeros(SIZE, np.float32))
    arrays = {n: Array(np.asarray(a)) for n, a in zip(NAMES, start, strict=True)}
    strategy = LasgStrategy(rule, step=1.0, **options)
    return strategy.start(grid, ArrayRecord(arrays), rounds), grid


def theta_of(result: LasgResult) -> F32:
    return join([array.numpy() for array in result.arrays.values()])


@pytest.mark.parametrize("rule", ["sgd", "lag", "wk1:max_delay=12", "wk2", "pse"])
@pytest.mark.parametrize("make", [message_app, numpy_app])
def test_apps_and_the_engine_take_the_same_path(
    rule: str, make: Callable[[], ClientApp]
) -> None:
    result, _ = run(make(), rule)
    engine = simulate(
        [Trained(partial(train, o)) for o in ORACLES],
        np.zeros(SIZE),
        rounds=15,
        rule=rule,
        step=1.0,
    )
    assert theta_of(result).tobytes() == engine.theta.tobytes()
    assert result.ledger.uploads == engine.ledger.uploads
    assert not result.ledger.refused
    if rule == "wk2":
        assert result.ledger.uploads < 4 * 15


def test_metrics_evaluation_and_the_apps_own_state_pass_through() -> None:
    result, grid = run(message_app(), rounds=6)
    assert result.train_metrics_clientapp[6]["loss"] == pytest.approx(1.5)
    evaluated: Any = result.evaluate_metrics_clientapp[6]
    assert evaluated["eval_loss"] > 0
    for context in grid.contexts.values():
        kept: Any = context.state["mine"]
        assert kept["runs"] == 6
    by_position, _ = run(numpy_app(), rounds=6)
    evaluated = by_position.evaluate_metrics_clientapp[6]
    assert evaluated["loss"] > 0


def test_an_app_may_replace_its_state() -> None:
    """What the mod keeps is not lost with the record that it was kept in."""
    replaced, _ = run(message_app(replace=True), rounds=6)
    kept, _ = run(message_app(), rounds=6)
    assert replaced.ledger == kept.ledger


def test_the_global_generators_are_given_back() -> None:
    random.seed(5), np.random.seed(5)  # noqa: NPY002
    expected = random.random(), np.random.rand()  # noqa: NPY002
    random.seed(5), np.random.seed(5)  # noqa: NPY002
    run(message_app(), rounds=2)
    assert (random.random(), np.random.rand()) == expected  # noqa: NPY002


def test_messages_of_other_strategies_pass_through() -> None:
    app = ClientApp(mods=[lasg_mod])

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        return Message(message.content, reply_to=message)

    grid = InProcessGrid(app, 1)
    content = RecordDict({"config": ConfigRecord({"x": 1})})
    (reply,) = grid.send_and_receive([Message(content, 1000, "train")])
    config: Any = reply.content["config"]
    assert config["x"] == 1


def test_a_step_other_than_one_is_warned_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    grid = InProcessGrid(message_app(), len(ORACLES))
    start = split(np.zeros(SIZE, np.float32))
    arrays = {n: Array(np.asarray(a)) for n, a in zip(NAMES, start, strict=True)}
    with caplog.at_level("WARNING", logger="flwr"):
        LasgStrategy("wk2").start(grid, ArrayRecord(arrays), 3)
    lines = [r for r in caplog.records if "pass step=1.0" in r.getMessage()]
    assert len(lines) == 1
