"""Deadlines, stragglers, failing nodes, runs without workers, and the reports."""

import json
import logging
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.client import ClientApp

from experiments.inprocess import InProcessGrid
from lasg_flwr import WireError
from lasg_flwr.flower import requests
from lasg_flwr.protocol.norm_filter import NormFilter
from lasg_flwr.strategies import LasgStrategy
from lasg_flwr.strategies.failures import Backoff, FailureLog, Failures
from lasg_flwr.strategies.loop import Closing
from tests.problems.flower_app import (
    ORACLES,
    client_fn,
    client_fn_of,
    flat,
    initial_arrays,
    one_differs,
)
from tests.problems.least_squares import LeastSquares
from tests.problems.servers import server_for

pytestmark = pytest.mark.flower


def _grid(fn: Any = client_fn) -> InProcessGrid:
    return InProcessGrid(ClientApp(fn), len(ORACLES))


def _strategy(**options: Any) -> LasgStrategy:
    return LasgStrategy(step=0.05, fraction_evaluate=0.0, **options)


def _vector(*values: float) -> Any:
    return np.array(values, np.float32)


def test_polling_gives_the_same_run_to_the_bit() -> None:
    plain = _strategy().start(_grid(), initial_arrays(), 10)
    grid = _grid()
    polled = _strategy(round_seconds=5.0).start(grid, initial_arrays(), 10)
    assert grid.pulls == 10
    assert flat(polled.arrays).tobytes() == flat(plain.arrays).tobytes()


def test_a_round_closes_after_its_deadline() -> None:
    grid = _grid()
    grid.silent = {993}
    strategy = _strategy(round_seconds=0.15, fail_limit=None, rule="sgd")
    result = strategy.start(grid, initial_arrays(), 3)
    assert result.ledger.uploads == 3 * 4
    assert grid.pulls >= 6
    assert strategy.server.roster.records.keys() == {0, 2, 3, 4}


def test_a_round_closes_with_a_share_of_the_replies() -> None:
    grid = _grid()
    grid.silent = {993}
    strategy = _strategy(reply_share=0.8, fail_limit=None, rule="sgd")
    result = strategy.start(grid, initial_arrays(), 3)
    assert result.ledger.uploads == 3 * 4
    assert grid.pulls == 3


def test_rounds_without_any_answer_are_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    grid = _grid()
    grid.silent = set(grid.contexts)
    result = _strategy(round_seconds=0.05).start(grid, initial_arrays(), 3)
    assert result.ledger.rounds == 3
    assert result.ledger.uploads == 0
    assert caplog.text.count("none of 5 nodes gave a valid answer") == 1
    assert caplog.text.count("needs mods=[lasg_mod] or LasgNumPyClient") == 1


def test_silence_is_no_saving_and_leaves_the_initial_model(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    grid = _grid()
    _strategy(round_seconds=5.0).start(grid, initial_arrays(), 2)
    assert "bytes so far" in caplog.text
    assert "no node ever uploaded" not in caplog.text
    caplog.clear()
    grid.silent = set(grid.contexts)
    _strategy(round_seconds=0.05).start(grid, initial_arrays(), 2)
    assert "failed 5" in caplog.text
    assert "so far" not in caplog.text
    assert caplog.text.count("no node ever uploaded in 2 rounds") == 1


def test_the_remedy_of_clients_without_lasg_is_for_those_that_never_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = Failures(None)
    failures.open([1])
    failures.answered(1)
    failures.close(0)
    failures.open([1])
    failures.close(1)
    assert "none of 1 nodes" in caplog.text
    assert "lasg_mod" not in caplog.text


def test_a_failing_node_is_left_alone_for_longer_and_longer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(LeastSquares):
        def gradient(self, theta: Any, batch: Any) -> Any:
            raise RuntimeError("no data on this device")

    grid = _grid(one_differs(Failing))
    _strategy(fail_limit=2, rule="sgd").start(grid, initial_arrays(), 20)
    asked = [
        requests.read_head(m.content["fitins.config"]).round  # type: ignore[arg-type]
        for m in grid.requests
        if m.metadata.dst_node_id == 993
    ]
    assert asked == [0, 1, 3, 6, 11]
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert sum("no data on this device" in w for w in warnings) == 1
    assert caplog.text.count("failed 2 times in a row") == 1


def test_an_answer_makes_good_again() -> None:
    backoff = Backoff(1)
    assert [backoff.failed(5, 0), backoff.failed(5, 2)] == [1, 2]
    assert backoff.reachable([4, 5], 4) == [4]
    backoff.answered(5)
    assert backoff.reachable([4, 5], 4) == [4, 5]
    assert backoff.failed(5, 4) == 1


def test_the_pause_is_bounded_and_nobody_left_means_everybody() -> None:
    backoff = Backoff(1)
    assert max(backoff.failed(5, k) for k in range(100)) == 64
    assert backoff.reachable([5], 100) == [5]
    backoff.keep([6])
    assert backoff.reachable([5, 6], 100) == [5, 6]


def test_what_peers_say_takes_bounded_memory(caplog: pytest.LogCaptureFixture) -> None:
    failure_log = FailureLog()
    for i in range(1000):
        failure_log.about(7, i * "y" + 10_000 * "x")
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 16
    assert max(len(r.getMessage()) for r in warnings) < 400


def test_reasons_that_differ_in_numbers_alone_are_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failure_log = FailureLog()
    for i in range(10):
        failure_log.about(7, f"round {i}: <Batch at 0x7f{i:x}c> is empty")
    failure_log.about(7, "the disk is full")
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 2


def test_a_run_without_workers_ends_as_configured(
    caplog: pytest.LogCaptureFixture,
) -> None:
    grid = _grid()

    def lose_all(round_: int, arrays: Any) -> None:
        if round_ == 4:
            grid.contexts.clear()

    strategy = _strategy(wait_seconds=0.0)
    result = strategy.start(grid, initial_arrays(), 10, evaluate_fn=lose_all)
    assert result.ledger.rounds == 4
    assert "only 0 of at least 2 nodes" in caplog.text


def test_a_run_that_loses_its_workers_before_evaluation_ends_as_configured(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Losing(InProcessGrid):
        def send_and_receive(self, messages: Any, **options: Any) -> Any:
            replies = super().send_and_receive(messages, **options)
            if len(self.requests) > 2 * len(ORACLES):  # the second round's training
                self.contexts.clear()
            return replies

    grid = Losing(ClientApp(client_fn), len(ORACLES))
    strategy = LasgStrategy(step=0.05, wait_seconds=0.0)
    result = strategy.start(grid, initial_arrays(), 10)
    assert result.ledger.rounds == 2
    assert list(result.evaluate_metrics_clientapp) == [1]
    assert "the run ends in round 2" in caplog.text


def test_a_run_without_workers_waits_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid = _grid()
    away = dict(grid.contexts)
    grid.contexts.clear()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            grid.contexts.update(away)

    monkeypatch.setattr("lasg_flwr.strategies.nodes.time.sleep", sleep)
    result = _strategy().start(grid, initial_arrays(), 2)
    assert len(slept) == 3
    assert result.ledger.rounds == 2


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"round_seconds": 0}, "round_seconds"),
        ({"reply_share": 0.0}, "reply_share"),
        ({"reply_share": 1.1}, "reply_share"),
        ({"fail_limit": 0}, "fail_limit"),
        ({"norm_bound": -1.0}, "norm_bound"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        LasgStrategy(**options)


def test_closing() -> None:
    assert Closing().waits_for_all
    assert not Closing(5.0).waits_for_all
    assert not Closing(share=0.5).waits_for_all


def test_json_lines_agree_with_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "run.jsonl"
    result = _strategy(log_file=path).start(_grid(), initial_arrays(), 10)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [line for line in lines if "ledger" in line]
    assert [line["round"] for line in lines] == list(range(1, 11))
    assert lines[-1]["ledger"] == result.ledger.as_dict()
    assert sum(line["uploaded"] for line in lines) == result.ledger.uploads
    assert sum(line["skipped"] for line in lines) == result.ledger.skips
    assert all(line["failed"] == 0 and line["seconds"] > 0 for line in lines)


def test_tensorboard_gets_the_scalars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None:
            pass

    module = types.ModuleType("tensorboard.summary")
    module.Writer = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboard", types.ModuleType("tensorboard"))
    monkeypatch.setitem(sys.modules, "tensorboard.summary", module)
    result = _strategy(tensorboard_dir=tmp_path).start(_grid(), initial_arrays(), 3)
    assert ("lasg/uploads", float(result.ledger.uploads), 3) in written


def test_tensorboard_that_is_missing_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        LasgStrategy(tensorboard_dir=tmp_path)


def test_the_norm_bound_refuses_what_is_far_too_long() -> None:
    norm_filter = NormFilter(3.0)
    lengths = {0: 1.0, 1: 2.0, 2: 3.0}
    for key, length in lengths.items():
        norm_filter.check(key, "full", _vector(length, 0))
    with_all = _vector(100, 0)
    norm_filter.check(3, "full", with_all)  # the first round is not screened
    norm_filter = NormFilter(3.0)
    for key, length in lengths.items():
        norm_filter.check(key, "full", _vector(length, 0))
    norm_filter.settle()
    norm_filter.check(0, "full", _vector(7.5, 0))  # the others' median is 2.5
    with pytest.raises(WireError, match="too long"):
        norm_filter.check(0, "full", _vector(7.51, 0))
    norm_filter.check(0, "innovation", with_all)


def test_without_a_bound_nothing_is_measured() -> None:
    server = server_for(np.zeros(2))
    server.norm_filter.check(0, "full", _vector(1, 1))
    server.norm_filter.settle()
    assert server.norm_filter.norms == {}


def test_a_huge_upload_is_refused_and_the_aggregate_untouched() -> None:
    class Liar(LeastSquares):
        def gradient(self, theta: Any, batch: Any) -> Any:
            return super().gradient(theta, batch) * np.float32(1e6)

    def oracle_of(i: int) -> LeastSquares:
        lies = i == 1 and len(grid.requests) > 5
        return Liar(ORACLES[i].x, ORACLES[i].y) if lies else ORACLES[i]

    grid = _grid(client_fn_of(oracle_of))
    strategy = _strategy(rule="sgd", norm_bound=100.0, fail_limit=None)
    result = strategy.start(grid, initial_arrays(), 5)
    assert result.ledger.refused == {"too long": 4}
    assert np.abs(flat(result.arrays)).max() < 10
