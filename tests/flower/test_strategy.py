"""The Flower strategy and client, through a Grid that runs in this process."""

import logging
from typing import Any, cast

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.client import Client, ClientApp
from flwr.clientapp.mod import LocalDpMod
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from experiments.inprocess import InProcessGrid
from lasg_flwr import simulate
from lasg_flwr.clients import LasgNumPyClient
from lasg_flwr.errors import AllNodesFailedError, CompositionError
from lasg_flwr.flower import requests
from lasg_flwr.layout import Layout
from lasg_flwr.memory.per_worker import held_by
from lasg_flwr.protocol.versions import Form
from lasg_flwr.strategies import LasgResult, LasgStrategy
from tests.problems.flower_app import (
    ORACLES,
    SIZE,
    client_fn,
    client_fn_of,
    flat,
    initial_arrays,
    one_differs,
)
from tests.problems.least_squares import LeastSquares, Running
from tests.problems.rules import every_rule
from tests.problems.servers import server_for

pytestmark = pytest.mark.flower

RULES = every_rule(1.5)


def run(
    strategy: LasgStrategy, rounds: int = 20, seed: int | None = None, **options: Any
) -> tuple[LasgResult, InProcessGrid]:
    mods = options.pop("mods", None)
    grid = InProcessGrid(ClientApp(client_fn, mods=mods), len(ORACLES), seed)
    return strategy.start(grid, initial_arrays(), rounds, **options), grid


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("codec", ["dense", "topk:k=2"])
@pytest.mark.parametrize("server_memory", ["per-worker", "sum-only"])
def test_flower_and_engine_agree_to_the_bit(
    name: str, codec: str, server_memory: Any
) -> None:
    options: dict[str, Any] = {
        "rule": RULES[name],
        "codec": codec,
        "step": 0.05,
        "seed": 3,
        "server_memory": server_memory,
    }
    engine = simulate(ORACLES, np.zeros(SIZE), rounds=20, **options)
    for order in (None, 1, 2):
        result, _ = run(LasgStrategy(fraction_evaluate=0.0, **options), 20, order)
        assert flat(result.arrays).tobytes() == engine.theta.tobytes()
        assert result.ledger.uploads == engine.ledger.uploads
        assert result.ledger.uplink_bytes == engine.ledger.uplink_bytes


def test_some_rules_skip_and_still_move() -> None:
    result, _ = run(LasgStrategy("wk2", step=0.05), 20)
    assert 5 < result.ledger.uploads < 100
    assert result.ledger.skips == 100 - result.ledger.uploads
    assert np.any(flat(result.arrays))


def test_result_keeps_names_shapes_dtypes_and_integers() -> None:
    result, _ = run(LasgStrategy(step=0.05), 3)
    arrays = {n: a.numpy() for n, a in result.arrays.items()}
    assert list(arrays) == ["layer.weight", "layer.steps", "layer.bias"]
    assert arrays["layer.weight"].shape == (2, 2)
    assert arrays["layer.weight"].dtype == np.float64
    assert arrays["layer.bias"].dtype == np.float32
    assert arrays["layer.steps"] == 7


def test_ps_sends_nothing_to_workers_that_are_not_chosen() -> None:
    result, grid = run(LasgStrategy(RULES["ps"], step=0.05, fraction_evaluate=0.0), 30)
    assert len(grid.requests) == result.ledger.downloads < 5 * 30
    assert result.ledger.uploads == result.ledger.downloads


def test_one_array_each_way_and_small_skips() -> None:
    result, grid = run(LasgStrategy(step=0.05, fraction_evaluate=0.0), 20)
    for message in grid.requests + grid.replies:
        (record,) = message.content.array_records.values()
        assert len(record) == 1
    skips = [m for m in grid.replies if "_empty" in m.content["fitres.parameters"]]
    assert len(skips) == result.ledger.skips > 0


def test_the_ledger_counts_messages_as_flower_serialises_them() -> None:
    result, grid = run(LasgStrategy(step=0.05, fraction_evaluate=0.0), 10)

    def whole(messages: list[Message]) -> int:
        objects = [get_all_nested_objects(m).values() for m in messages]
        return sum(len(o.deflate()) for nested in objects for o in nested)

    ledger = result.ledger
    for counted, messages in (
        (ledger.downlink_message_bytes, grid.requests),
        (ledger.uplink_message_bytes, grid.replies),
    ):
        extra = (counted - whole(messages)) / len(messages)
        assert 500 < extra < 2500  # names of objects, and the answers' half of it
    assert result.ledger.uplink_message_bytes > result.ledger.uplink_bytes
    last = result.train_metrics_clientapp[10]
    assert last["lasg-uploads"] == result.ledger.uploads
    assert result.ledger.sgd_uplink_bytes == 10 * 5 * (12 + 4 * SIZE)


class Reporting(LeastSquares):
    """An oracle that is configured by the server and reports a metric."""

    def configure(self, config: dict[str, Any]) -> None:
        seen.append(config)

    def metrics(self) -> dict[str, Any]:
        return {"constant": 2.5, "text": "ignored"}


seen: list[dict[str, Any]] = []


def test_configs_and_metrics_pass_through() -> None:
    seen.clear()
    oracle = Reporting(ORACLES[0].x, ORACLES[0].y)
    app = ClientApp(lambda context: LasgNumPyClient(oracle, context).to_client())
    grid = InProcessGrid(app, 3)
    evaluated: list[int] = []

    def evaluate_fn(round_: int, arrays: ArrayRecord) -> MetricRecord:
        evaluated.append(round_)
        return MetricRecord({"norm": float(np.abs(flat(arrays)).sum())})

    strategy = LasgStrategy(step=0.05, evaluate_every=2)
    result = strategy.start(
        grid,
        initial_arrays(),
        4,
        train_config=ConfigRecord({"epochs": 3}),
        evaluate_fn=evaluate_fn,
    )
    assert seen[-1] == {"epochs": 3, "server-round": 4}
    assert result.train_metrics_clientapp[4]["constant"] == pytest.approx(2.5)
    assert "text" not in result.train_metrics_clientapp[4]
    assert sorted(result.evaluate_metrics_clientapp) == [2, 4]
    assert result.evaluate_metrics_clientapp[4]["bias"] == pytest.approx(1.0)
    assert cast(float, result.evaluate_metrics_clientapp[4]["loss"]) > 0
    assert evaluated == [0, 1, 2, 3, 4]


def test_fraction_train_samples_repeatably() -> None:
    strategy = LasgStrategy(
        step=0.05, fraction_train=0.4, fraction_evaluate=0.0, seed=5
    )
    first, grid = run(strategy, 10)
    again, _ = run(strategy, 10)
    assert len(grid.requests) == 2 * 10
    assert {m.metadata.dst_node_id for m in grid.requests} == set(grid.contexts)
    assert flat(first.arrays).tobytes() == flat(again.arrays).tobytes()


def test_failing_clients_do_not_stop_training() -> None:
    class Failing(LeastSquares):
        def gradient(self, theta: Any, batch: Any) -> Any:
            return np.full_like(theta, np.nan)

    grid = InProcessGrid(ClientApp(one_differs(Failing)), 5)
    strategy = LasgStrategy(step=0.05, fraction_evaluate=0.0, fail_limit=None)
    result = strategy.start(grid, initial_arrays(), 6)
    assert result.ledger.refused == {"failure": 6}
    assert np.any(flat(result.arrays))


def test_wiped_clients_are_refreshed() -> None:
    grid = InProcessGrid(ClientApp(client_fn), 5)
    strategy = LasgStrategy(step=0.05, codec="topk:k=2", fraction_evaluate=0.0)

    def wipe(round_: int, arrays: ArrayRecord) -> None:
        if round_ == 5:
            for context in grid.contexts.values():
                context.state.clear()

    result = strategy.start(grid, initial_arrays(), 20, evaluate_fn=wipe)
    assert not result.ledger.refused
    total = sum(
        record.weight * held_by(record, strategy.server.theta.size).astype(np.float64)
        for record in strategy.server.roster.sorted()
    )
    np.testing.assert_allclose(strategy.server.sum.total, total, rtol=1e-12)


def test_a_damaged_state_is_a_fresh_start(caplog: pytest.LogCaptureFixture) -> None:
    grid = InProcessGrid(ClientApp(client_fn), 2)
    strategy = LasgStrategy(step=0.05, fraction_evaluate=0.0)
    strategy.start(grid, initial_arrays(), 2)
    for context in grid.contexts.values():
        context.state["lasg.state"] = ConfigRecord({"worker": b"garbage"})
    result = strategy.start(grid, initial_arrays(), 2)
    assert result.ledger.uploads >= 2


def test_dp_wrapper_gets_a_clear_error() -> None:
    wrapped = DifferentialPrivacyServerSideFixedClipping(LasgStrategy(), 1.0, 1.0, 5)
    grid = InProcessGrid(ClientApp(client_fn), 5)
    with pytest.raises(CompositionError, match="differential-privacy"):
        wrapped.start(grid, initial_arrays(), 1)


def test_dp_mod_gets_a_clear_error() -> None:
    with pytest.raises(AllNodesFailedError, match="differential privacy"):
        run(LasgStrategy(), 9, mods=[LocalDpMod(1.0, 1.0, 1.0, 0.1)])


def test_two_clients_with_one_key(caplog: pytest.LogCaptureFixture) -> None:
    def twins(context: Context) -> Client:
        return LasgNumPyClient(ORACLES[0], context, key=4).to_client()

    grid = InProcessGrid(ClientApp(twins), 2)
    result = LasgStrategy(fraction_evaluate=0.0).start(grid, initial_arrays(), 3)
    assert result.ledger.refused == {"duplicate key": 3}
    assert result.ledger.uploads >= 1


def test_bad_arguments_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="unknown rule 'wk3'"):
        LasgStrategy("wk3")
    with pytest.raises(ValueError, match="unknown codec"):
        LasgStrategy(codec="gzip")
    with pytest.raises(ValueError, match="evaluate_every"):
        LasgStrategy(evaluate_every=0)
    with pytest.raises(ValueError, match=r"train_config has an entry 'lasg\.list'"):
        run(LasgStrategy(), 1, train_config=ConfigRecord({"lasg.list": [1, 2]}))


def test_arrays_that_are_no_record_are_refused() -> None:
    with pytest.raises(TypeError, match="is a ndarray, expected an ArrayRecord"):
        LasgStrategy().begin(cast(Any, np.zeros(10)))


def test_a_client_needs_a_context_or_a_key() -> None:
    with pytest.raises(ValueError, match="context"):
        LasgNumPyClient(ORACLES[0])


def test_numpy_scalars_in_metrics_are_fine() -> None:
    class Reports(LeastSquares):
        def metrics(self) -> dict[str, Any]:
            return {"loss": np.float32(0.5), "count": np.int64(3)}

        def evaluate(self, theta: Any) -> Any:
            return np.float32(1.5), np.int64(4), {"score": np.float64(0.25)}

    oracle = Reports(ORACLES[0].x, ORACLES[0].y)
    app = ClientApp(lambda context: LasgNumPyClient(oracle, context).to_client())
    result = LasgStrategy(step=0.05).start(InProcessGrid(app, 2), initial_arrays(), 2)
    assert not result.ledger.refused
    assert result.train_metrics_clientapp[2]["count"] == 3
    assert result.evaluate_metrics_clientapp[2]["score"] == 0.25


def test_the_ledger_counts_the_whole_packed_model() -> None:
    result, grid = run(LasgStrategy("sgd", step=0.05, fraction_evaluate=0.0), 3)
    packed = grid.requests[0].content.array_records["fitins.parameters"]
    (model,) = (array.numpy() for array in packed.values())
    assert model.nbytes == 4 * SIZE + 8
    assert result.ledger.downlink_bytes == 15 * model.nbytes
    assert result.ledger.sgd_downlink_bytes == 15 * model.nbytes
    assert result.ledger.sgd_uplink_bytes == result.ledger.uplink_bytes


@pytest.mark.parametrize("rule", ["sgd", "wk2", "pse"])
def test_buffers_take_the_engines_path(rule: str) -> None:
    """Integers stay at the server's value, buffers are averaged to the same bits."""
    first = np.array([1, -2, 0.5], np.float32)
    arrays = initial_arrays()
    arrays["layer.running_mean"] = Array(first)

    running = client_fn_of(lambda i: Running(ORACLES[i]))
    strategy = LasgStrategy(rule, step=0.05, fraction_evaluate=0.0)
    grid = InProcessGrid(ClientApp(running), len(ORACLES), shuffle_seed=1)
    result = strategy.start(grid, arrays, 20)
    engine = simulate(
        [Running(oracle) for oracle in ORACLES],
        np.zeros(SIZE),
        rounds=20,
        rule=rule,
        step=0.05,
        buffers=first,
        form=Form(integers=bytes(8)),
    )
    found = result.arrays["layer.running_mean"].numpy()
    assert found.tobytes() == engine.server.buffers.tobytes() != first.tobytes()
    assert flat(result.arrays).tobytes() == engine.theta.tobytes()
    assert result.arrays["layer.steps"].numpy() == 7
    ours, theirs = result.ledger, engine.ledger
    assert (ours.uplink_bytes, ours.downlink_bytes) == (
        theirs.uplink_bytes,
        theirs.downlink_bytes,
    )


def test_clients_that_know_no_buffers_are_warned_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    arrays = initial_arrays()
    arrays["bn.running_mean"] = Array(np.full(2, 3.0, np.float32))
    with caplog.at_level("WARNING", logger="flwr"):
        strategy = LasgStrategy(step=0.05, fraction_evaluate=0.0)
        grid = InProcessGrid(ClientApp(client_fn), len(ORACLES))
        result = strategy.start(grid, arrays, 2)
    assert result.arrays["bn.running_mean"].numpy().tolist() == [3.0, 3.0]
    lines = [r for r in caplog.records if "without buffers" in r.getMessage()]
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluate_every": 1.5}, "integer >= 1"),
        ({"leave_after": 0}, "leave_after must be an integer >= 1"),
        ({"buffers": "running"}, "list of names"),
        ({"fraction_train": 2.0}, r"must lie in \[0, 1\]"),
        ({"rule": "wk2:c=-1"}, "in units of 1/η²"),
    ],
)
def test_bad_options_of_the_strategy(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LasgStrategy(**options)


def test_an_oracle_is_evaluated_with_the_servers_buffers() -> None:
    class Evaluated(Running):
        def evaluate(self, theta: Any) -> tuple[float, int, dict[str, float]]:
            return float(self.values.sum()), 1, {}

    values = np.array([1, 2, 4], np.float32)
    arrays: dict[str, Any] = {"w": np.zeros(SIZE, np.float32), "b.running_mean": values}
    layout = Layout.of(arrays)
    packed = layout.pack(arrays["w"], values, b"")
    server = server_for(arrays["w"], buffers=values, form=Form(layout.to_json()))
    ((_, request),) = server.broadcast.evaluate([0], 0)
    client = LasgNumPyClient(Evaluated(ORACLES[0]), key=0)
    loss, _, _ = client.evaluate([packed], requests.config_of(request, {}))
    assert loss == 7.0
