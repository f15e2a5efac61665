"""What a run did: rows by round, evaluation, progress, pictures, and logs read back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lasg_flwr import simulate
from lasg_flwr.history import History, Row, read_log
from lasg_flwr.vectors import F32
from tests.problems.least_squares import LeastSquares, least_squares


class Evaluated(LeastSquares):
    """Least squares with an evaluation on its own data."""

    def evaluate(self, theta: F32) -> tuple[float, int, dict[str, float]]:
        error = self.x @ theta - self.y
        close = float(np.mean(np.abs(error) < 0.5))
        return float(np.mean(error**2) / 2), len(self.y), {"accuracy": close}


ORACLES = [Evaluated(o.x, o.y) for o in least_squares(3)]


def test_the_history_agrees_with_the_ledger_and_the_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = ORACLES[0].size
    result = simulate(
        ORACLES, np.zeros(size), rounds=25, step=0.05, evaluate_every=10, progress=True
    )
    rows = result.history.rows
    assert [row.round for row in rows] == list(range(1, 26))
    last = rows[-1]
    ledger = result.ledger
    assert last[1:4] == (ledger.uploads, ledger.uplink_bytes, ledger.downlink_bytes)
    assert [row.round for row in result.history.evaluated()] == [10, 20, 25]
    found = [oracle.evaluate(result.theta) for oracle in ORACLES]
    total = sum(n for _, n, _ in found)
    assert last.loss == pytest.approx(sum(v * n for v, n, _ in found) / total)
    assert last.accuracy is not None
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "round 10/25",
        "round 20/25",
        "round 25/25",
    ]
    losses = result.history.evaluated().column("loss")
    assert losses[-1] < losses[0]


def test_an_evaluation_of_ones_own_and_none() -> None:
    size = ORACLES[0].size
    seen = simulate(
        ORACLES,
        np.zeros(size),
        rounds=4,
        step=0.05,
        evaluate_every=2,
        evaluate=lambda theta: {"test_loss": float(theta @ theta)},
    )
    assert [row.round for row in seen.history.evaluated()] == [2, 4]
    plain = simulate(ORACLES, np.zeros(size), rounds=4, step=0.05)
    assert len(plain.history) == 4
    assert not plain.history.evaluated().rows
    assert plain.theta.tobytes() == seen.theta.tobytes()
    with pytest.raises(ValueError, match="evaluate_every"):
        simulate(ORACLES, np.zeros(size), rounds=4, step=0.05, evaluate_every=0)


def test_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [Row(1, 4, 900, 400), Row(2, 7, 1600, 800, 0.5, 0.75)]
    figure = History(rows).plot(tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes()[:4] == b"\x89PNG"
    labels = [[line.get_label() for line in axes.lines] for axes in figure.axes]
    assert labels == [["loss", "accuracy"]] * 2 + [["uplink bytes", "downlink bytes"]]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_log_is_read_back(tmp_path: Path) -> None:
    ledger = {"uploads": 3, "uplink_bytes": 10, "downlink_bytes": 20}
    lines = [
        {"round": 1, "ledger": ledger, "train_metrics": {"train_loss": 9.0}},
        {"round": 1, "evaluate_metrics": {"eval_loss": 2.0, "eval_acc": 0.5}},
        {"round": 2, "ledger": {**ledger, "uploads": 5}},
        {"round": 2, "evaluate_metrics": {"eval_loss": 1.5}},
        {"round": 2, "server_evaluate_metrics": {"loss": 1.0, "accuracy": 0.75}},
    ]
    assert read_log(write(tmp_path / "log", lines)).rows == [
        Row(1, 3, 10, 20, 2.0, 0.5),
        Row(2, 5, 10, 20, 1.0, 0.75),
    ]
    for bad in ([{"uploads": 3}], [{"round": 1, "ledger": 7}]):
        with pytest.raises(ValueError, match="line 1, is none of"):
            read_log(write(tmp_path / "bad", bad))
