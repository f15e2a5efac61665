"""Apps that seed themselves by the server's round: two-run rules refuse them."""

import logging
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from experiments.inprocess import InProcessGrid
from lasg_flwr.clients import lasg_mod
from lasg_flwr.errors import LasgError
from lasg_flwr.strategies import LasgResult, LasgStrategy
from tests.problems.mod_apps import ORACLES, SIZE, mine

pytestmark = pytest.mark.flower


def app(kind: str) -> tuple[ClientApp, list[int]]:
    """One step of SGD; `kind` says what draws the batch, or the learning rate."""
    made, runs = ClientApp(mods=[lasg_mod]), [0]

    @made.train()
    def train(message: Message, context: Context) -> Message:
        runs[0] += 1
        oracle, told = mine(context), message.content["config"]
        round_: Any = told["server-round"]
        seed = round_ if kind == "by round" else np.random.randint(2**31)  # noqa: NPY002
        rng = np.random.default_rng(seed)
        batch = rng.choice(oracle.num_examples, 4, replace=False)
        if kind in ("all data", "all data, rate by round"):
            batch = np.arange(oracle.num_examples)
        rate = 0.05 * 0.9**round_ if "rate by round" in kind else 0.05
        arrays: Any = message.content["arrays"]
        theta = arrays["w"].numpy()
        trained = (theta - rate * oracle.gradient(theta, batch)).astype(np.float32)
        return Message(
            RecordDict({
                "a": ArrayRecord({"w": Array(trained)}),
                "b": MetricRecord({"num-examples": 20}),
            }),
            reply_to=message,
        )  # fmt: skip

    return made, runs


def run(kind: str, rule: str, rounds: int = 4) -> tuple[LasgResult, int]:
    made, runs = app(kind)
    strategy = LasgStrategy(rule, step=1.0, fraction_evaluate=0.0)
    arrays = ArrayRecord({"w": Array(np.zeros(SIZE, np.float32))})
    result = strategy.start(InProcessGrid(made, len(ORACLES)), arrays, rounds)
    return result, runs[0]


@pytest.mark.parametrize("rule", ["wk2", "vr"])
@pytest.mark.parametrize("kind", ["by round", "all data, rate by round"])
def test_two_run_rules_refuse_them(
    kind: str, rule: str, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    with pytest.raises(LasgError):
        run(kind, rule)
    assert "it seeds itself by the round" in caplog.text


@pytest.mark.parametrize("kind", ["all data", "own batches", "own, rate by round"])
def test_others_are_left_alone(kind: str) -> None:
    result, runs = run(kind, "wk2")
    assert not result.ledger.refused
    counted = result.ledger.gradient_evaluations
    more = 2 if kind == "all data" else 0  # another round, and this one again
    assert runs == counted + (2 + more) * len(ORACLES)


def test_rules_that_run_once_do_not_mind() -> None:
    result, runs = run("by round", "sgd")
    assert runs == result.ledger.uploads == 16
