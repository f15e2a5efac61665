"""LazyFedAvg beside FedAvg: the same signature, log and model, with dense uploads."""

import inspect
import logging
from collections.abc import Iterable
from itertools import count
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
from flwr.clientapp import ClientApp
from flwr.server.strategy import FedAvg as LegacyFedAvg
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from experiments.inprocess import InProcessGrid
from lasg_flwr.clients import lasg_mod
from lasg_flwr.rules import VR
from lasg_flwr.strategies import LasgStrategy, LazyFedAvg, LegacyLazyFedAvg
from lasg_flwr.strategies.efforts import SETTINGS, settings_for
from tests.problems.mod_apps import SIZE, mine

pytestmark = pytest.mark.flower

NODES = 4
DENSE: Any = {"codec": "dense", "downlink": "dense"}


def record(values: Any) -> ArrayRecord:
    return ArrayRecord({"w": Array(values)})


def weight_in(content: RecordDict) -> Any:
    return content.array_records["arrays"]["w"].numpy()


def least_squares_app(*mods: Any, noisy: bool = False) -> ClientApp:
    """Ten steps on a device's own data; its number of examples changes by round."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        data, config = mine(context), message.content.config_records["config"]
        theta = weight_in(message.content).astype(np.float32)
        for _ in range(10):
            theta = theta - 0.05 * data.gradient(theta, np.arange(data.num_examples))
        if noisy:
            theta = theta + np.random.normal(size=SIZE).astype(np.float32)  # noqa: NPY002
        round_: Any = config["server-round"]
        part = int(context.node_config["partition-id"])
        metrics = MetricRecord(
            {"num-examples": 1 + part * round_, "seen": float(theta[0])}
        )
        content = RecordDict({"arrays": record(theta), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        norm = float(np.linalg.norm(weight_in(message.content)))
        metrics = MetricRecord({"num-examples": 3, "norm": norm})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def start_arrays() -> ArrayRecord:
    return record(np.zeros(SIZE, np.float32))


def w(result: Any) -> Any:
    return result.arrays["w"].numpy()


def run(strategy: Any, rounds: int = 6, app: ClientApp | None = None) -> Any:
    lazy = isinstance(strategy, LasgStrategy)
    app = app or least_squares_app(*([lasg_mod] if lazy else []))
    return strategy.start(InProcessGrid(app, NODES), start_arrays(), rounds)


def test_the_signature_is_fedavgs_with_more_behind_it() -> None:
    plain = list(inspect.signature(FedAvg).parameters.items())
    lazy = list(inspect.signature(LazyFedAvg).parameters.items())
    assert len(plain) == 10
    for (name, first), (other, second) in zip(plain, lazy, strict=False):
        assert (name, first.kind) == (other, second.kind)
        if not name.endswith("aggr_fn"):
            assert first.default == second.default
    strategy = LazyFedAvg(0.5, 0.25, 3, 4, 5, "n", "model", "settings")
    for name, _ in plain[:8]:
        assert getattr(strategy, name) == getattr(
            FedAvg(0.5, 0.25, 3, 4, 5, "n", "model", "settings"), name
        )
    assert callable(strategy.train_metrics_aggr_fn)


def test_the_older_one_takes_what_the_older_fedavg_takes() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(LegacyFedAvg).parameters.items()
    }
    assert len(defaults) == 13
    strategy = LegacyLazyFedAvg(**{**defaults, "fraction_fit": 0.3})
    assert strategy.fraction_fit == 0.3
    with pytest.raises(ValueError, match="effort must be"):
        LegacyLazyFedAvg(effort="three-runs")  # type: ignore[arg-type]


def test_dense_uploads_give_fedavgs_model_and_metrics() -> None:
    plain, lazy = run(FedAvg()), run(LazyFedAvg(**DENSE))
    np.testing.assert_allclose(w(lazy), w(plain), rtol=1e-5, atol=1e-6)
    assert np.abs(w(plain)).max() > 0.1
    for name in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
        first, second = getattr(plain, name), getattr(lazy, name)
        assert first.keys() == second.keys() == set(range(1, 7))
        for k, metrics in first.items():
            own = {n: v for n, v in second[k].items() if not n.startswith("lasg-")}
            assert own == pytest.approx(dict(metrics), rel=1e-5)


def test_coded_uploads_lose_little_and_save_bytes() -> None:
    plain, lazy = run(FedAvg(), 30), run(LazyFedAvg(), 30)
    np.testing.assert_allclose(w(lazy), w(plain), atol=0.05)
    assert w(lazy).tolist() != w(plain).tolist()
    ledger = lazy.ledger
    assert ledger.uploads == ledger.gradient_evaluations == 30 * NODES


def test_the_first_rounds_get_more_bits_and_equal_arrays_stay_equal() -> None:
    app, size = ClientApp(mods=[lasg_mod]), 4000
    seeds = count()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        theta = message.content.array_records["arrays"]["a"].numpy()
        rng = np.random.default_rng(next(seeds))
        theta = theta + rng.standard_cauchy(size).astype(np.float32)
        arrays = ArrayRecord({n: Array(theta) for n in ("a", "tied")})
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"a": arrays, "m": metrics}), reply_to=message)

    strategy = LazyFedAvg(fraction_evaluate=0.0)
    grid, zeros = InProcessGrid(app, 2), np.zeros(size, np.float32)
    start = ArrayRecord({n: Array(zeros) for n in ("a", "tied")})
    result = strategy.start(grid, start, num_rounds=25)
    sent: Any = [result.train_metrics_clientapp[k] for k in range(1, 26)]
    up = np.diff([m["lasg-uplink-bytes"] for m in sent], prepend=0) / 2
    down = np.diff([m["lasg-step-bytes"] for m in sent])  # the first one is dense
    bits, steps = 8 * up / (2 * size), 8 * down / (4 * size)
    assert 1.9 < bits[:10].min() < bits[:10].max() < 2.2
    assert 0.95 < bits[10:20].min() < bits[10:20].max() < 1.2
    assert bits[20:].max() < 0.7
    assert steps[:10].min() > 1.8
    assert (result.arrays["a"].numpy() == result.arrays["tied"].numpy()).all()


def test_an_app_that_does_not_repeat_itself_is_welcome_to_one_run() -> None:
    state = np.random.get_state()  # noqa: NPY002
    calls: list[str] = []

    def unseeded(message: Message, context: Context, call_next: Any) -> Message:
        np.random.set_state(state)  # noqa: NPY002
        np.random.seed(len(calls))  # noqa: NPY002
        calls.append(message.metadata.message_type)
        return call_next(message, context)  # type: ignore[no-any-return]

    app = least_squares_app(lasg_mod, unseeded, noisy=True)
    result = run(LazyFedAvg(fraction_evaluate=0.0), 3, app)
    assert calls == ["train"] * 3 * NODES
    assert not result.ledger.refused
    strategy = LazyFedAvg(effort="two-runs", fraction_evaluate=0.0)
    assert strategy.config.rule_object == VR(c=1.5, growth=0.0)
    with pytest.raises(Exception, match="does not repeat itself"):
        run(strategy, 3, app)


def test_the_efforts() -> None:
    assert set(SETTINGS) == {"one-run", "two-runs"}
    lazy = {"rule": "wk2", "memory": "innovation", "codec": "sign"}
    assert settings_for("one-run", lazy) == {
        **settings_for("two-runs", {}),
        "rule": "wk2",
        "codec": "sign",
    }


def test_the_log_reads_like_fedavgs(caplog: pytest.LogCaptureFixture) -> None:
    found = []
    for strategy in (FedAvg(), LazyFedAvg()):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="flwr"):
            run(strategy, 2)
        found.append([record.getMessage() for record in caplog.records])
    plain, lazy = found
    kept = [
        line
        for line in plain
        if line.startswith(("[ROUND", "configure_", "aggregate_"))
    ]
    assert len(kept) == 10
    own = [line for line in lazy if line.startswith(("[ROUND", "conf", "aggregate"))]
    assert own == kept
    rounds = [line for line in lazy if line.startswith("lasg: round")]
    assert [line.split(":")[1] for line in rounds] == [" round 1", " round 2"]


class Halving(LazyFedAvg):
    """Changes the arrays before every round, and keeps what the replies had."""

    seen: list[Any]

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        half = record(arrays["w"].numpy() / 2)
        return super().configure_train(server_round, half, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = list(replies)
        found = [
            (weight_in(r.content), r.content.metric_records["metrics"]["num-examples"])
            for r in replies
        ]
        self.seen = [*getattr(self, "seen", []), found]
        return super().aggregate_train(server_round, replies)


class PlainHalving(FedAvg):
    """The same for FedAvg."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        half = record(arrays["w"].numpy() / 2)
        return super().configure_train(server_round, half, config, grid)


def test_arrays_that_a_subclass_changes_are_honoured() -> None:
    plain, strategy = run(PlainHalving()), Halving(**DENSE)
    result = run(strategy)
    np.testing.assert_allclose(w(result), w(plain), rtol=1e-5, atol=1e-6)
    assert len(strategy.seen) == 6
    for replies in strategy.seen:
        assert len(replies) == NODES
    total = sum(a * n for a, n in strategy.seen[-1])
    mean = total / sum(n for _, n in strategy.seen[-1])
    np.testing.assert_allclose(mean, w(result), rtol=1e-5, atol=1e-6)


def test_a_skipping_worker_is_seen_with_what_the_server_holds() -> None:
    with pytest.warns(UserWarning, match="use c <= 4"):
        strategy = Halving(effort="two-runs", rule="wk2:c=1e9", **DENSE)
    result = run(strategy, 3)
    assert result.ledger.skips > 0
    assert [len(replies) for replies in strategy.seen] == [NODES] * 3


class OwnMean(LazyFedAvg):
    """Aggregates by itself, without super(), what it finds in the replies."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        found = [weight_in(r.content) for r in replies]
        return record(np.median(found, axis=0).astype(np.float32)), None


def test_a_subclass_may_aggregate_by_itself() -> None:
    class PlainMedian(FedAvg):
        aggregate_train: Any = OwnMean.aggregate_train

    plain, lazy = run(PlainMedian()), run(OwnMean(**DENSE))
    np.testing.assert_allclose(w(lazy), w(plain), rtol=1e-5, atol=1e-6)


class FirstTwo(LazyFedAvg):
    """Leaves the other replies out, and changes what it passes on."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        kept = list(replies)[:2]
        for reply in kept:
            reply.content["arrays"] = record(np.ones(SIZE))
        return super().aggregate_train(server_round, kept)


def test_replies_left_out_are_out_and_changes_in_them_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    result = run(FirstTwo(fail_limit=None), 2)
    assert result.ledger.uploads == 4
    assert caplog.text.count("changed the arrays of a reply") == 4


def test_start_in_a_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    once = run(LazyFedAvg(), 6)
    strategy, arrays = LazyFedAvg(), start_arrays()
    grid = InProcessGrid(least_squares_app(lasg_mod), NODES)
    for _ in range(3):
        result = strategy.start(grid, arrays, 2)
        arrays = result.arrays
    assert w(result).tobytes() == w(once).tobytes()
    assert set(result.train_metrics_clientapp) == {5, 6}
    strategy.start(grid, start_arrays(), 1)
    assert strategy.server.round == 1
    assert caplog.text.count("a new run begins") == 1


class OwnLoop(LazyFedAvg):
    """Has a loop of its own, as Flower's advanced example does."""

    def start(
        self, grid: Grid, initial_arrays: ArrayRecord, *args: Any, **others: Any
    ) -> Any:
        arrays = initial_arrays
        for k in range(1, 4):
            messages = self.configure_train(k, arrays, ConfigRecord(), grid)
            replies = grid.send_and_receive(messages)
            made, _ = self.aggregate_train(k, replies)
            assert made is not None
            arrays = record(made["w"].numpy() / 2)
        return arrays


def test_a_subclass_may_have_a_loop_of_its_own() -> None:
    grid = InProcessGrid(least_squares_app(lasg_mod), NODES)
    arrays = OwnLoop(**DENSE).start(grid, start_arrays())
    plain = run(PlainHalving(), 3)
    np.testing.assert_allclose(arrays["w"].numpy() * 2, w(plain), rtol=1e-5)


def test_a_weight_of_the_users_choice() -> None:
    app = least_squares_app(lasg_mod)
    plain = least_squares_app()
    with pytest.raises(Exception, match="nothing-of-it"):
        run(FedAvg(weighted_by_key="nothing-of-it"), 1, plain)
    with pytest.raises(Exception, match="nothing-of-it"):
        run(LazyFedAvg(weighted_by_key="nothing-of-it"), 1, app)
