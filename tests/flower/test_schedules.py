"""Learning rates that change by round, behind `lasg_mod`: which config a run gets."""

from collections.abc import Callable
from math import cos, pi
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
from flwr.client import Client
from flwr.clientapp import ClientApp

from experiments.inprocess import InProcessGrid
from lasg_flwr.clients import LasgNumPyClient, lasg_mod
from lasg_flwr.strategies import LasgStrategy
from lasg_flwr.vectors import F32
from tests.problems.least_squares import LeastSquares, least_squares

pytestmark = pytest.mark.flower

CURVATURE = np.linspace(0.05, 1, 20)
ROUNDS, NODES = 40, 4
SCHEDULES: dict[str, Callable[[int], float]] = {
    "x0.9": lambda k: 0.2 * 0.9**k,
    "cosine": lambda k: 0.1 * (1 + cos(pi * k / ROUNDS)),
    "a tenth from round 10 on": lambda k: 0.2 if k < 10 else 0.02,
    "constant": lambda k: 0.2,
}
seen: list[dict[str, Any]] = []


def app_of(schedule: Callable[[int], float]) -> ClientApp:
    """Five noisy steps of SGD on ½ Σ H w², at a learning rate by round."""
    app = ClientApp(mods=[lasg_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        config = message.content.config_records["config"]
        k: Any = config["server-round"]
        seen.append({"node": context.node_config["partition-id"], **config})
        (array,) = message.content.array_records["arrays"].values()
        w = array.numpy().astype(np.float64)
        for _ in range(5):
            noise = np.random.normal(0, 0.01, 20)  # noqa: NPY002
            w -= schedule(k) * (CURVATURE * w + noise)
        made = ArrayRecord({"w": Array(w.astype(np.float32))})
        metrics = MetricRecord({"num-examples": 10, "round": k})
        return Message(RecordDict({"a": made, "m": metrics}), reply_to=message)

    return app


def run(schedule: str, rule: str) -> tuple[float, int]:
    """Return the final loss and the number of uploads."""
    grid = InProcessGrid(app_of(SCHEDULES[schedule]), NODES)
    strategy = LasgStrategy(rule, step=1.0, fraction_evaluate=0.0)
    start = ArrayRecord({"w": Array(np.ones(20, np.float32))})
    result = strategy.start(grid, start, ROUNDS)
    w = result.arrays["w"].numpy().astype(np.float64)
    return float(CURVATURE @ w**2 / 2), result.ledger.uploads


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_vr_keeps_up_with_plain_training(schedule: str) -> None:
    plain, uploads = run(schedule, "sgd")
    lazy, fewer = run(schedule, "vr")
    assert uploads == NODES * ROUNDS
    assert lazy < 1.5 * plain
    assert fewer < uploads / 2


def test_the_older_iterate_runs_first_and_under_its_own_config() -> None:
    seen.clear()
    run("x0.9", "wk2")
    mine = [entry for entry in seen if entry["node"] == 0][2:]  # without the check
    older = [i for i, e in enumerate(mine) if e.get("lasg-older-iterate")]
    assert len(older) > ROUNDS / 2
    for i in older:
        assert not mine[i + 1].get("lasg-older-iterate")
        assert mine[i]["server-round"] < mine[i + 1]["server-round"]
    rounds = [e["server-round"] for e in mine if not e.get("lasg-older-iterate")]
    assert rounds == list(range(1, ROUNDS + 1))
    assert not mine[-1].get("lasg-older-iterate")


def test_an_oracle_is_configured_in_the_same_way() -> None:
    told: list[dict[str, Any]] = []

    class Told(LeastSquares):
        def configure(self, config: dict[str, Any]) -> None:
            told.append(config)

        def gradient(self, theta: F32, batch: Any) -> F32:
            told.append({"gradient": True})
            return super().gradient(theta, batch)

    data = least_squares(2)

    def client_fn(context: Context) -> Client:
        i = int(context.node_config["partition-id"])
        kind = Told if i == 0 else LeastSquares
        return LasgNumPyClient(kind(data[i].x, data[i].y), context).to_client()

    grid = InProcessGrid(ClientApp(client_fn), 2)
    start = ArrayRecord({"theta": Array(np.zeros(6, np.float32))})
    strategy = LasgStrategy("wk2", step=0.05, fraction_evaluate=0.0)
    strategy.start(grid, start, 6, train_config=ConfigRecord({"epochs": 3}))
    last = told[-5:]
    assert last[1]["lasg-older-iterate"] is True
    assert last[1]["server-round"] < last[0]["server-round"] == 6
    assert last[2] == last[4] == {"gradient": True}
    assert last[3] == last[0] == {"epochs": 3, "server-round": 6}
