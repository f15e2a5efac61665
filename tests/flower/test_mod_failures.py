"""What an app behind `lasg_mod` can do wrong: one line each, and the others go on."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
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

BAD = 2
ROUNDS = 20
RATE = np.float32(0.05)
BUFFERS = np.array([1, 2, 3], np.float32)

Arrays = dict[str, Any]
Change = Callable[[Arrays], Arrays]


def train(oracle: LeastSquares, arrays: Arrays) -> Arrays:
    """One step of SGD on a batch from NumPy's global generator."""
    batch = np.random.choice(oracle.num_examples, 4, replace=False)  # noqa: NPY002
    made = arrays["weight"] - RATE * oracle.gradient(arrays["weight"], batch)
    return {**arrays, "weight": made, "steps": arrays["steps"] + 1}


def start() -> Arrays:
    zeros = np.zeros(SIZE, np.float32)
    return {"weight": zeros, "running_mean": BUFFERS, "steps": np.array(7)}


def train_vector(oracle: LeastSquares, theta: F32) -> F32:
    made: F32 = train(oracle, {**start(), "weight": theta})["weight"]
    return made


def is_bad(context: Context) -> bool:
    return context.node_config["partition-id"] == BAD


def count_run(context: Context) -> int:
    kept: Any = context.state.setdefault("mine", MetricRecord({"runs": 0}))
    kept["runs"] += 1
    return int(kept["runs"])


def message_app(change: Change, metrics: dict[str, Any]) -> ClientApp:
    app = ClientApp(mods=[lasg_mod])

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        runs = count_run(context)
        record = message.content.array_records["arrays"]
        made = train(mine(context), {n: a.numpy() for n, a in record.items()})
        numbers: dict[str, Any] = {"num-examples": 20}
        if is_bad(context):
            made, numbers = change({**made, "runs": runs}), metrics
            made.pop("runs", None)
        if "no record" in made:
            return Message(RecordDict(), reply_to=message)
        arrays = ArrayRecord({n: Array(np.asarray(a)) for n, a in made.items()})
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord(numbers)})
        return Message(content, reply_to=message)

    return app


class Numbers(NumPyClient):
    def __init__(self, context: Context, change: Change, examples: int) -> None:
        self.oracle, self.bad = mine(context), is_bad(context)
        self.change, self.examples = change, examples

    def fit(self, parameters: Any, config: Any) -> Any:
        made = train(self.oracle, dict(zip(start(), parameters, strict=True)))
        if not self.bad:
            return list(made.values()), 20, {}
        return list(self.change(made).values()), self.examples, {}


def numpy_app(change: Change, metrics: dict[str, Any]) -> ClientApp:
    def client_fn(context: Context) -> Client:
        examples = metrics.get("num-examples", 20)
        return Numbers(context, change, examples).to_client()

    return ClientApp(client_fn=client_fn, mods=[lasg_mod])


def run(app: ClientApp, **options: Any) -> tuple[LasgResult, InProcessGrid]:
    grid = InProcessGrid(app, len(ORACLES))
    strategy = LasgStrategy("wk2", step=1.0, fraction_evaluate=0.0, **options)
    arrays = ArrayRecord({n: Array(a) for n, a in start().items()})
    return strategy.start(grid, arrays, ROUNDS), grid


def unchanged(arrays: Arrays) -> Arrays:
    return arrays


def other_shape(arrays: Arrays) -> Arrays:
    return {**arrays, "weight": np.zeros(SIZE + 3, np.float32)}


def other_buffers(arrays: Arrays) -> Arrays:
    return {**arrays, "running_mean": np.zeros(9, np.float32)}


def other_integers(arrays: Arrays) -> Arrays:
    return {**arrays, "steps": np.zeros(2, np.int64)}


def no_arrays(arrays: Arrays) -> Arrays:
    return {}


def no_record(arrays: Arrays) -> Arrays:
    return {"no record": 0}


def random_weight(arrays: Arrays) -> Arrays:
    noise = np.random.default_rng().normal(size=SIZE).astype(np.float32)
    return {**arrays, "weight": arrays["weight"] + noise}


def random_buffers(arrays: Arrays) -> Arrays:
    noise = np.random.default_rng().normal(size=3).astype(np.float32)
    return {**arrays, "running_mean": noise}


def crash(arrays: Arrays) -> Arrays:
    raise RuntimeError(f"out of memory at {id(arrays):#x}")


def diverge(arrays: Arrays) -> Arrays:
    return {**arrays, "weight": np.full(SIZE, np.nan, np.float32)}


FAILURES: list[tuple[Change, dict[str, Any], str]] = [
    (other_shape, {}, "array 'weight': expected shape (6,), found shape (9,)"),
    (other_buffers, {}, "array 'running_mean': expected shape (3,)"),
    (other_integers, {}, "array 'steps': expected shape ()"),
    (no_arrays, {}, "returned 0 arrays, the model has 3"),
    (random_weight, {}, "did not draw the same batches"),
    (random_buffers, {}, "did not draw the same batches"),
    (crash, {}, "out of memory"),
    (diverge, {}, "NaN or infinity in its gradient"),
    (unchanged, {"num-examples": 0}, "a client without training data"),
]


@pytest.mark.parametrize("make", [message_app, numpy_app])
@pytest.mark.parametrize(
    ("change", "metrics", "message"),
    FAILURES,
    ids=[f"{change.__name__}{metrics or ''}" for change, metrics, _ in FAILURES],
)
def test_a_failing_app_is_one_line_and_the_others_go_on(
    make: Callable[..., ClientApp],
    change: Change,
    metrics: dict[str, Any],
    message: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = make(change, {"num-examples": 20, **metrics})
    check(app, message, caplog, monkeypatch)


def check(
    app: ClientApp,
    message: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    with caplog.at_level("WARNING", logger="flwr"):
        result, grid = run(app)
    reasons = [str(r.error.reason) for r in grid.replies if r.has_error()]
    assert 4 <= len(reasons) < ROUNDS
    assert all(message in reason for reason in reasons)
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert f"node {1000 - 7 * BAD}: " in lines[0]
    assert message in lines[0]
    assert result.ledger.refused == {"failure": len(reasons)}
    good = [i for i in range(len(ORACLES)) if i != BAD]
    engine = simulate(
        [Trained(partial(train_vector, ORACLES[i])) for i in good],
        np.zeros(SIZE),
        keys=good,
        rounds=ROUNDS,
        rule="wk2",
        step=1.0,
    )
    made = {name: array.numpy() for name, array in result.arrays.items()}
    assert made["weight"].tobytes() == engine.theta.tobytes()
    assert made["running_mean"].tobytes() == BUFFERS.tobytes()
    assert made["steps"] == 7
    assert "lasg.state" not in grid.contexts[1000 - 7 * BAD].state


@pytest.mark.parametrize(
    ("change", "metrics", "message"),
    [
        (no_record, {"num-examples": 20}, "has 0 ArrayRecords"),
        (unchanged, {"loss": 1.0}, "did not report on how many examples"),
    ],
)
def test_a_reply_without_the_model_or_its_examples(
    change: Change,
    metrics: dict[str, Any],
    message: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check(message_app(change, metrics), message, caplog, monkeypatch)


def test_every_run_of_a_round_finds_the_state_before_it() -> None:
    """An app that trains by what it counted in Context.state does repeat itself."""

    def decays(arrays: Arrays) -> Arrays:
        start = arrays["weight"]
        return {**arrays, "weight": (start / arrays["runs"]).astype(np.float32)}

    result, grid = run(message_app(decays, {"num-examples": 20}))
    assert not result.ledger.refused
    assert result.ledger.gradient_evaluations > ROUNDS * len(ORACLES)
    for context in grid.contexts.values():
        kept: Any = context.state["mine"]
        assert kept["runs"] == ROUNDS


def test_a_failed_round_leaves_the_apps_state_as_it_was() -> None:
    """A round counts as one run, however often the app ran; a failed one as none."""

    def fails_later(arrays: Arrays) -> Arrays:
        if arrays["runs"] > 3:
            raise RuntimeError("the disk is full")
        return arrays

    app = message_app(fails_later, {"num-examples": 20})
    result, grid = run(app, fail_limit=None)
    assert result.ledger.refused == {"failure": ROUNDS - 3}
    for node, context in grid.contexts.items():
        kept: Any = context.state["mine"]
        assert kept["runs"] == (3 if node == 1000 - 7 * BAD else ROUNDS)
