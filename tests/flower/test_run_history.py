"""A strategy's result and its log tell one and the same history."""

from pathlib import Path
from typing import Any

import pytest
from flwr.app import ArrayRecord, MetricRecord

from experiments.inprocess import InProcessGrid
from lasg_flwr.clients import lasg_mod
from lasg_flwr.history import read_log
from lasg_flwr.strategies import LazyFedAvg
from tests.flower.test_lazy_fedavg import DENSE, NODES, least_squares_app, start_arrays

pytestmark = pytest.mark.flower


def on_the_server(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
    norm = float(abs(arrays["w"].numpy()).sum())
    return MetricRecord({"loss": norm}) if server_round % 2 == 0 else None


@pytest.mark.parametrize("evaluate_fn", [None, on_the_server])
def test_result_and_log_agree(evaluate_fn: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    grid = InProcessGrid(least_squares_app(lasg_mod), NODES)
    strategy = LazyFedAvg(log_file=path, **DENSE)
    result = strategy.start(grid, start_arrays(), 6, evaluate_fn=evaluate_fn)
    rows = result.history.rows
    assert [row.round for row in rows] == list(range(1, 7))
    assert rows[-1].uplink_bytes == result.ledger.uplink_bytes
    assert rows[0].downlink_bytes == result.ledger.downlink_bytes // 6
    seen = [row.round for row in result.history.evaluated()]
    assert seen == ([] if evaluate_fn is None else [2, 4, 6])
    read = [row for row in read_log(path) if row.round]
    assert read == rows
