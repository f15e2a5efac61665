"""What peers write: cut, escaped and bounded in number; odd metrics end nothing."""

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.client import ClientApp
from flwr.common import Code, EvaluateRes, Status, ndarrays_to_parameters
from flwr.server.client_manager import SimpleClientManager
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.inprocess import InProcessGrid
from lasg_flwr.checks import quoted
from lasg_flwr.clients import lasg_mod
from lasg_flwr.flower import metrics, traffic
from lasg_flwr.flower.metrics import numbers, sorted_out, without_odd_ones
from lasg_flwr.strategies import LasgStrategy, LegacyLasgStrategy
from lasg_flwr.strategies.failures import FailureLog, Failures
from tests.problems.flower_app import ORACLES, client_fn, client_fn_of, initial_arrays
from tests.problems.least_squares import LeastSquares
from tests.problems.legacy_proxy import Proxy

pytestmark = pytest.mark.flower
QUICK = settings(derandomize=True, database=None, deadline=None, max_examples=200)


@QUICK
@given(st.text(), st.integers(10, 400))
def test_what_is_quoted_is_one_short_printable_line(text: str, most: int) -> None:
    shown = quoted(text, most)
    assert shown.isprintable()
    assert len(shown) <= most
    if text.isprintable() and len(text) <= most:
        assert shown == text


@pytest.mark.parametrize("odd", ["\n", "\r", "\x1b[31m", "\u202e", "\ud800", "\x00"])
def test_nothing_that_moves_the_cursor_gets_through(odd: str) -> None:
    shown = quoted(f"a{odd}b")
    assert shown.startswith("a\\")
    assert shown.isprintable()


def _longest(caplog: pytest.LogCaptureFixture) -> int:
    return max(len(record.getMessage()) for record in caplog.records)


def test_reasons_are_cut_and_escaped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    failures = Failures(1)
    failures.open([7])
    failures.about(7, "first\nsecond\x1b[2J" + "x" * 5_000_000)
    failures.close(0)
    FailureLog().about(8, "y\n" * 1_000_000)
    assert _longest(caplog) < 500
    assert all("\n" not in r.getMessage() for r in caplog.records)
    assert "first\\nsecond\\x1b" in caplog.text


class Loud(InProcessGrid):
    """Some nodes answer with long errors, or metrics with long and odd names."""

    def __init__(self) -> None:
        super().__init__(ClientApp(client_fn), len(ORACLES))
        self.sent = 0

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        replies = list(super().send_and_receive(messages, timeout=timeout))
        return [self._changed(reply) for reply in replies]

    def _changed(self, reply: Message) -> Message:
        self.sent += 1
        node = reply.metadata.src_node_id
        if node == 993:
            error = Error(1, f"{self.sent * 'ab'}\n\x1b[31m" + "x" * 1_000_000)
            return Message(error, reply_to=self.requests[-1])
        if node == 1000:
            name = f"{self.sent}\n" + "n" * 1_000_000
            for key, record in list(reply.content.config_records.items()):
                if key.endswith(".metrics"):
                    record[name] = 1.0
            for i in range(300):
                metrics_record = reply.content.config_records.get("fitres.metrics")
                if metrics_record is not None:
                    metrics_record[f"m{i}"] = 1.0
            for numbers_ in reply.content.metric_records.values():
                numbers_[f"{self.sent} evil \x1b[2J"] = 1.0
        return reply


def test_the_log_stays_short_and_clean_whatever_nodes_say(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    result = LasgStrategy(step=0.05, fail_limit=None).start(
        Loud(), initial_arrays(), 25
    )
    ours = [r for r in caplog.records if r.name == "flwr"]
    assert max(len(r.getMessage()) for r in ours) < 2_100
    assert all(r.getMessage().replace("\t", "").isprintable() for r in ours)
    warnings = [r for r in ours if r.levelno >= logging.WARNING]
    assert len(warnings) <= 20
    left_out = [r.getMessage() for r in warnings if "are left out" in r.getMessage()]
    assert len(left_out) == 1
    assert result.ledger.rounds == 25
    for record in result.train_metrics_clientapp.values():
        assert len(record) <= metrics.MOST_METRICS + 30
        assert all(name.isprintable() and len(name) <= 100 for name in record)


ODD: dict[str, Any] = {
    "an array": np.ones(3),
    "None": None,
    "a dict": {"a": 1},
    "too large": 2**70,
    "complex": 1j,
    "a tuple": (1, 2),
    "mixed": [1, "a"],
    "a set": {1},
}


class Reporting(LeastSquares):
    """Reports whatever a test wants."""

    told: Any = None

    def metrics(self) -> Any:
        return self.told


def _reported(told: Any, rounds: int = 3) -> tuple[LasgStrategy, Any]:
    def oracle_of(i: int) -> Reporting:
        oracle = Reporting(ORACLES[i].x, ORACLES[i].y)
        oracle.told = told
        return oracle

    grid = InProcessGrid(ClientApp(client_fn_of(oracle_of)), len(ORACLES))
    strategy = LasgStrategy("sgd", step=0.05, fraction_evaluate=0.0)
    return strategy, strategy.start(grid, initial_arrays(), rounds)


def _tensor() -> Any:
    return pytest.importorskip("torch", exc_type=ImportError).ones(())


@pytest.mark.parametrize("name", [*ODD, "a tensor"])
def test_an_odd_metric_is_left_out_with_one_warning_and_loses_nothing(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    value = _tensor() if name == "a tensor" else ODD[name]
    _, result = _reported({"good": 0.5, "odd one": value})
    assert result.ledger.uploads == 3 * len(ORACLES)
    assert not result.ledger.refused
    assert result.train_metrics_clientapp[3]["good"] == pytest.approx(0.5)
    assert "odd one" not in result.train_metrics_clientapp[3]
    said = [r.getMessage() for r in caplog.records if "are left out" in r.getMessage()]
    assert len(said) == 1
    assert "odd one" in said[0]


@pytest.mark.parametrize("told", [None, {}])
def test_no_metrics_at_all_are_fine(told: Any) -> None:
    assert _reported(told)[1].ledger.uploads == 3 * len(ORACLES)


def _listing_app(value: Any) -> ClientApp:
    app = ClientApp(mods=[lasg_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays = message.content["arrays"]
        reported = MetricRecord({"num-examples": 2, "hist": value, "loss": 1.0})
        content = RecordDict({"arrays": arrays, "metrics": reported})
        return Message(content, reply_to=message)

    return app


@pytest.mark.parametrize("value", [[1, 2, 3], [0.5, 1.5]])
def test_lists_of_numbers_are_averaged_as_fedavg_does(value: Any) -> None:
    grid = InProcessGrid(_listing_app(value), 3)
    strategy = LasgStrategy("sgd", step=1.0, fraction_evaluate=0.0)
    result = strategy.start(grid, initial_arrays(), 2)
    found = result.train_metrics_clientapp[2]
    assert found["hist"] == pytest.approx(value)
    assert found["loss"] == pytest.approx(1.0)


def test_accounting_ends_no_run() -> None:
    record = MetricRecord({"num_examples": 2**70})
    message = Message(RecordDict({"m": record}), 5, "train")
    good = Message(RecordDict({"m": MetricRecord({"n": 1})}), 5, "train")
    with pytest.raises(Exception, match=r"."):
        record.deflate()
    counted = traffic.of_replies([message, good])
    assert counted == traffic.of_replies([good])
    assert counted.uplink_bytes > 0
    assert traffic.of_requests([message]) == (0, 0)


def test_a_huge_metric_ends_no_run(caplog: pytest.LogCaptureFixture) -> None:
    class Huge(InProcessGrid):
        def send_and_receive(self, messages: Any, **options: Any) -> Any:
            replies = list(super().send_and_receive(messages, **options))
            for reply in replies:
                for record in reply.content.config_records.values():
                    record["huge"] = 2**70
                for numbers_ in reply.content.metric_records.values():
                    numbers_["huge"] = 2**70
            return replies

    grid = Huge(ClientApp(client_fn), len(ORACLES))
    result = LasgStrategy("sgd", step=0.05).start(grid, initial_arrays(), 2)
    assert result.ledger.uploads == 2 * len(ORACLES)
    assert "huge" not in result.train_metrics_clientapp[2]
    assert "huge" not in result.evaluate_metrics_clientapp[2]


VALUES = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.text(),
    st.binary(),
    st.none(),
    st.lists(st.one_of(st.integers(), st.floats(), st.text()), max_size=4),
    st.sampled_from([np.float32(0.5), np.int64(3), np.bool_(True), np.ones(2), {}]),
)
NAMES = st.one_of(st.text(), st.integers(), st.sampled_from(["loss", "n" * 101, "a\n"]))


@QUICK
@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_what_passes_the_gate_can_be_sent_and_the_rest_is_named(
    values: dict[Any, Any],
) -> None:
    good, odd = sorted_out(values)
    assert len(good) + len(odd) == len(values)
    ConfigRecord(good).deflate()
    MetricRecord(numbers(values)).deflate()
    assert all(name.isprintable() for name in good)
    assert metrics.named(odd).isprintable()


def test_a_clean_reply_is_handed_on_as_it_is() -> None:
    content = RecordDict(
        {"m": MetricRecord({"a": 1, "l": [1, 2]}), "c": ConfigRecord()}
    )
    assert without_odd_ones(content) is content
    content["m"]["a\n"] = 2  # type: ignore[assignment]
    assert list(without_odd_ones(content)["m"]) == ["a", "l"]


@pytest.mark.parametrize("which", ["train_config", "evaluate_config"])
@pytest.mark.parametrize(
    "name", ["lasg", "lasg.layout", "lasg.x", "lasg-older-iterate"]
)
def test_names_of_our_own_in_a_config_are_refused_before_anything_runs(
    which: str, name: str
) -> None:
    grid = InProcessGrid(ClientApp(client_fn), len(ORACLES))
    config: Any = {which: ConfigRecord({name: 1})}
    with pytest.raises(
        ValueError, match=f"{which} has an entry '{name}'.*another name"
    ):
        LasgStrategy(step=0.05).start(grid, initial_arrays(), 2, **config)
    assert not grid.requests


def test_other_names_and_lists_in_a_config_reach_the_app() -> None:
    told: list[dict[str, Any]] = []
    app = ClientApp(mods=[lasg_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        told.append(dict(message.content["config"]))
        arrays: ArrayRecord = message.content["arrays"]  # type: ignore[assignment]
        reported = MetricRecord({"num-examples": 2})
        content = RecordDict({"arrays": arrays, "metrics": reported})
        return Message(content, reply_to=message)

    given_ = {"lasg-like": 1, "lasgna": "x", "layers": [1, 2], "names": ["a", "b"]}
    strategy = LasgStrategy("wk2", step=1.0, fraction_evaluate=0.0)
    for _ in range(2):  # a second start finds what the first one put there
        config = ConfigRecord(given_)  # type: ignore[arg-type]
        strategy.start(InProcessGrid(app, 2), initial_arrays(), 2, train_config=config)
    for config_ in told:
        assert given_.items() <= config_.items()


def test_rubbish_does_not_count_towards_the_share_of_replies() -> None:
    """Two quick nodes send rubbish; the honest ones are heard all the same."""

    class Slow(InProcessGrid):
        quick = (1000, 993)

        def _deliver(self, message: Message) -> Message:
            reply = super()._deliver(message)
            if message.metadata.dst_node_id in self.quick:
                reply.content["fitres.metrics"]["lasg"] = b"rubbish"  # type: ignore[assignment]
            return reply

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            found = list(super().pull_messages(message_ids))
            if self.pulls % 2:  # at first, only the quick ones have answered
                late = [m for m in found if m.metadata.src_node_id not in self.quick]
                for message in late:
                    self._ready[message.metadata.reply_to_message_id] = message
                found = [m for m in found if m not in late]
            return found

    grid = Slow(ClientApp(client_fn), 4)
    strategy = LasgStrategy(
        "sgd", step=0.05, fraction_evaluate=0.0, reply_share=0.5, fail_limit=None
    )
    result = strategy.start(grid, initial_arrays(), 5)
    assert result.ledger.uploads == 5 * 2
    assert result.ledger.refused["malformed"] == 5 * 2


def test_the_older_strategy_takes_no_odd_metrics_either() -> None:
    seen: list[dict[str, Any]] = []

    def aggregate(pairs: Any) -> dict[str, Any]:
        seen.extend(told for _, told in pairs)
        return {"loss": 1.0}

    status = Status(Code.OK, "")
    odd: dict[str, Any] = {"good": 0.5, "huge": 2**70, "a\n": 1, "x" * 10**6: 1}
    strategy = LegacyLasgStrategy(
        step=0.05, wait_seconds=0, evaluate_metrics_aggregation_fn=aggregate
    )
    zeros = ndarrays_to_parameters([np.zeros(3, np.float32)])
    strategy.configure_fit(1, zeros, SimpleClientManager())
    result = EvaluateRes(status, 0.5, 3, odd)
    strategy.aggregate_evaluate(1, [(Proxy("1"), result)], [])
    assert seen == [{"good": 0.5}]
