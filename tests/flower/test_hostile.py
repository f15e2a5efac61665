"""Hostile replies as Flower hands them over: odd records, arrays and metrics."""

import logging
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.client import ClientApp
from flwr.common import (
    Code,
    FitRes,
    Parameters,
    Status,
    ndarrays_to_parameters,
)
from flwr.server.client_manager import SimpleClientManager

from experiments.inprocess import InProcessGrid
from lasg_flwr.strategies import LasgResult, LasgStrategy, LegacyLasgStrategy
from lasg_flwr.strategies.legacy_clients import node_of
from tests.problems.flower_app import ORACLES, SIZE, client_fn, flat, initial_arrays
from tests.problems.legacy_proxy import Proxy

pytestmark = pytest.mark.flower

ROUNDS = 60
LIAR = 993
Mutation = Callable[[np.random.Generator, RecordDict], object]


def _array(
    data: bytes, dtype: str = "uint8", shape: Any = (4,), stype: str = ""
) -> Any:
    array = Array(dtype, shape, stype or "numpy.ndarray", data)
    return ArrayRecord({"0": array})


def _set(kind: str, name: str, value: Any) -> Mutation:
    def mutate(rng: np.random.Generator, content: RecordDict) -> None:
        record = content.config_records if kind == "config" else content.metric_records
        key = next(k for k in record if k.endswith(name.partition("/")[0]))
        record[key][name.partition("/")[2]] = value

    return mutate


def _put(name: str, record: Any) -> Mutation:
    return lambda rng, content: content.__setitem__(name, record)


def _drop(name: str) -> Mutation:
    def mutate(rng: np.random.Generator, content: RecordDict) -> None:
        for key in [k for k in content if k.endswith(name)]:
            del content[key]

    return mutate


def _npz() -> bytes:
    file = BytesIO()
    np.savez(file, a=np.zeros(3, np.uint8))
    return file.getvalue()


def _bomb() -> bytes:
    """The header of a petabyte, and no byte of it."""
    file = BytesIO()
    form = {"descr": "|u1", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(file, form)
    return file.getvalue()


NO_VECTORS = (
    _npz(),
    _bomb(),
    b"PK\x03\x04",
    b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((  \n",
)
"""Bytes that NumPy reads as something else, or fails at in ways of its own."""


def _garble(rng: np.random.Generator, content: RecordDict) -> None:
    content["fitres.parameters"] = _array(rng.bytes(int(rng.integers(300))))


def _header(rng: np.random.Generator, content: RecordDict) -> None:
    content["fitres.metrics"] = ConfigRecord({"lasg": rng.bytes(int(rng.integers(99)))})


def _clear(rng: np.random.Generator, content: RecordDict) -> None:
    content.clear()


INVALID: tuple[Mutation, ...] = (
    _clear,
    _garble,
    _header,
    _drop("fitres.parameters"),
    _drop("num_examples"),
    _put("fitres.parameters", ArrayRecord()),
    _put("fitres.parameters", ConfigRecord({"a": 1})),
    _put("fitres.parameters", _array(b"\x93NUMPY" + bytes(40))),
    *(_put("fitres.parameters", _array(data)) for data in NO_VECTORS),
    _put("fitres.parameters", _array(b"x", "float32", (1 << 40,))),
    _put("fitres.parameters", _array(b"x" * 9, "object", (1,))),
    _put("fitres.parameters", _array(b"x" * 9, "uint8", (9,), "torch.Tensor")),
    _put("fitres.metrics", MetricRecord({"lasg": 1})),
    _set("config", "fitres.metrics/lasg", "text"),
    _set("config", "fitres.metrics/lasg", 1.5),
    _set("metric", "num_examples/num_examples", -1),
    _set("metric", "num_examples/num_examples", 1.5),
    _set("metric", "num_examples/num_examples", [1, 2]),
)
ODD_METRICS: tuple[Mutation, ...] = (
    _set("config", "metrics/num-examples", 0),
    _set("config", "metrics/num-examples", -7),
    _set("config", "metrics/num-examples", float("nan")),
    _set("config", "metrics/loss", float("inf")),
    _set("config", "metrics/loss", "high"),
    _set("config", "metrics/extra", [1.0, 2.0]),
    _set("config", "metrics/converged", True),
    _put("metrics", MetricRecord({"num-examples": [1, 2]})),
    _put("aaa", MetricRecord({"num-examples": 0, "loss": [1.0]})),
    _put("first", MetricRecord({"loss": 1.0})),
)


class LyingGrid(InProcessGrid):
    """One node's replies are changed; training replies so that none is valid."""

    def __init__(self, lies: bool) -> None:
        super().__init__(ClientApp(client_fn), len(ORACLES))
        self.rng = np.random.default_rng(0)
        self.lies = lies
        self.told = 0

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        replies = super().send_and_receive(messages, timeout=timeout)
        return [r for reply in replies for r in self._changed(reply)]

    def _changed(self, reply: Message) -> list[Message]:
        if reply.metadata.src_node_id != LIAR:
            return [reply]
        if not self.lies:
            return []
        train = reply.metadata.message_type == MessageType.TRAIN
        if train:  # a short reply lacks num_examples, and its header has them
            choices = (*INVALID[:4], *INVALID[5:])
        else:
            choices = (*INVALID[:1], *INVALID[3:5], *ODD_METRICS)
        mutation = choices[self.told % len(choices)]
        self.told += 1
        if train and self.told % 7 == 0:
            return [Message(Error(1, "x" * 10_000), reply_to=self.requests[-1])]
        mutation(self.rng, reply.content)
        return [reply]


def _run(lies: bool) -> LasgResult:
    strategy = LasgStrategy(step=0.05, fail_limit=None)
    return strategy.start(LyingGrid(lies), initial_arrays(), ROUNDS)


def test_lies_of_one_node_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    silent = _run(lies=False)
    caplog.clear()
    lying = _run(lies=True)
    assert flat(lying.arrays).tobytes() == flat(silent.arrays).tobytes()
    assert lying.ledger.uploads == silent.ledger.uploads
    assert lying.ledger.refused.total() >= 0.9 * ROUNDS
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert 5 < len(warnings) < 25  # each reason once


def test_metrics_that_do_not_go_together_end_no_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Odd(LyingGrid):
        def _changed(self, reply: Message) -> list[Message]:
            if reply.metadata.src_node_id == LIAR:
                ODD_METRICS[self.told % len(ODD_METRICS)](self.rng, reply.content)
                self.told += 1
            return [reply]

    strategy = LasgStrategy(step=0.05)
    result = strategy.start(Odd(lies=True), initial_arrays(), 10)
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert sum("could not be aggregated" in text for text in warnings) == 1
    honest = LasgStrategy(step=0.05).start(
        InProcessGrid(ClientApp(client_fn), len(ORACLES)), initial_arrays(), 10
    )
    assert flat(result.arrays).tobytes() == flat(honest.arrays).tobytes()


def _fit_res(tensors: list[bytes], examples: Any = 1, **metrics: Any) -> FitRes:
    status = Status(Code.OK, "")
    return FitRes(status, Parameters(tensors, "numpy.ndarray"), examples, metrics)


def test_the_older_strategy_survives_the_same(caplog: pytest.LogCaptureFixture) -> None:
    manager = SimpleClientManager()
    proxies = [Proxy(str(i)) for i in range(2)]
    for proxy in proxies:
        manager.register(proxy)
    zeros = ndarrays_to_parameters([np.zeros(SIZE, np.float32)])
    strategy = LegacyLasgStrategy(
        step=0.05,
        fail_limit=2,
        initial_parameters=zeros,
        fit_metrics_aggregation_fn=lambda pairs: {"x": 1 // 0},
    )
    rng = np.random.default_rng(0)
    bad = [
        _fit_res([]),
        _fit_res([rng.bytes(50)], lasg=rng.bytes(50)),
        _fit_res([b"a", b"b"], lasg=b""),
        _fit_res([b"\x93NUMPY" + bytes(50)], lasg="text"),
        _fit_res([], -5, lasg=b"\0" * 70),
        *(_fit_res([data], lasg=b"\0" * 70) for data in NO_VECTORS),
    ]
    contacted = []
    for k in range(18):
        asked = strategy.configure_fit(k + 1, zeros, manager)
        contacted.append(len(asked))
        failures: list[Any] = [RuntimeError("died"), (proxies[0], bad[0])]
        results = [(proxy, bad[k % len(bad)]) for proxy, _ in asked]
        strategy.aggregate_fit(k + 1, results, failures)
    assert strategy.ledger.uploads == 0
    assert strategy.ledger.refused.total() >= 24
    assert not strategy.server.theta.any()
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert sum("died" in text for text in warnings) == 1
    assert len(warnings) < 20
    assert node_of("0") in strategy._core.replies.failures._backoff._failures
    assert strategy.aggregate_evaluate(1, [], []) == (None, {})


def test_the_older_strategy_says_that_it_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    zeros = ndarrays_to_parameters([np.zeros(SIZE, np.float32)])
    strategy = LegacyLasgStrategy(wait_seconds=0, initial_parameters=zeros)
    caplog.set_level("INFO", "flwr")
    assert strategy.configure_fit(1, zeros, SimpleClientManager()) == []
    assert "waiting for clients: 2 are needed" in caplog.text
    assert "only 0 of 2 clients" in caplog.text
    assert not strategy.server.theta.any()
