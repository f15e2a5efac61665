"""The study of the CNN: its runs, its table and its plot."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from experiments.cnn_study import SETTINGS, Setting, summary
from experiments.cnn_study_plot import plot_study


def run_of(setting: Setting, uploads: int | None) -> dict[str, Any]:
    totals = {f"{what}_to_target": uploads for what in ("rounds", "uploads")}
    totals["uplink_bytes_to_target"] = None if uploads is None else 100 * uploads
    history = [[0, 0, 0, 2.3, 0.1], [25, 10, 1000, 0.3, 0.9], [50, 20, 2000, 0.1, 0.9]]
    return {"setting": asdict(setting), "totals": totals, "history": history}


def test_settings_are_the_papers_but_for_what_their_name_says() -> None:
    config = SETTINGS["iid-wk2-c3"].comparison()
    parameters = config.hyperparameters
    assert config.workers == 10
    assert (parameters.max_delay, parameters.d_max) == (50, 10)
    assert parameters.c == pytest.approx(3 / 0.05**2)
    assert config.stop_at == config.target == 0.1
    assert SETTINGS["local4-wk2-c1"].comparison().hyperparameters.c == 1.0
    assert len(set(SETTINGS.values())) == len(SETTINGS)


def test_a_run_stands_beside_the_sgd_of_its_own_steps(tmp_path: Path) -> None:
    base = Setting(method="sgd")
    runs = {
        "iid-sgd": run_of(base, 900),
        "iid-wk2-c3": run_of(replace(base, method="wk2", c=3), 300),
        "iid-wk2-c10": run_of(replace(base, method="wk2", c=10), None),
        "eta0.1-wk2-c1": run_of(replace(base, method="wk2", learning_rate=0.1), 300),
    }
    factors = [row["x_fewer_uploads"] for row in summary(runs)]
    assert factors == [1.0, 3.0, None, None]
    plot_study(runs, 0.1, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
