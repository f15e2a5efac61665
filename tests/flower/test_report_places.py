"""Reports come after the checkpoint and end no run; the log says where they go."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from flwr.client import ClientApp

from experiments.inprocess import InProcessGrid
from lasg_flwr.strategies import LasgResult, LasgStrategy
from tests.problems.flower_app import ORACLES, client_fn, flat, initial_arrays

pytestmark = pytest.mark.flower


def _run(**options: Any) -> LasgResult:
    grid = InProcessGrid(ClientApp(client_fn), len(ORACLES))
    strategy = LasgStrategy(step=0.05, fraction_evaluate=0.0, **options)
    return strategy.start(grid, initial_arrays(), 4)


@pytest.mark.parametrize("place", ["/dev/full", "a link", "a FIFO", "a folder's file"])
def test_a_place_that_takes_no_report_ends_no_run(
    place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log_file = tmp_path / "run.jsonl"
    if place == "/dev/full":
        log_file = Path(place)
    elif place == "a link":
        log_file.symlink_to(tmp_path / "other")
    elif place == "a FIFO":
        os.mkfifo(log_file)
    else:
        (tmp_path / "file").write_text("")
        log_file = tmp_path / "file" / "run.jsonl"
    plain = _run()
    caplog.clear()
    result = _run(log_file=log_file, checkpoint_dir=tmp_path / "kept")
    assert flat(result.arrays).tobytes() == flat(plain.arrays).tobytes()
    assert (tmp_path / "kept" / "server.safetensors").exists()
    lost = [r for r in caplog.records if "a report is lost" in r.getMessage()]
    assert [r.levelno for r in lost if r.levelno >= logging.WARNING] == [
        logging.WARNING
    ]
    assert str(log_file) in lost[0].getMessage()
    assert not (tmp_path / "other").exists()


def test_the_log_says_absolute_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "flwr")
    monkeypatch.chdir(tmp_path)
    _run(log_file="logs/run.jsonl", checkpoint_dir="kept")
    assert f"Reports: log file {tmp_path}/logs/run.jsonl" in caplog.text
    assert f"Checkpoint: {tmp_path}/kept/server.safetensors" in caplog.text
    lines = (tmp_path / "logs" / "run.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [1, 2, 3, 4]


def test_places_do_not_move_with_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    strategy = LasgStrategy(
        step=0.05, fraction_evaluate=0.0, log_file="run.jsonl", checkpoint_dir="kept"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    grid = InProcessGrid(ClientApp(client_fn), len(ORACLES))
    strategy.start(grid, initial_arrays(), 1)
    assert (tmp_path / "run.jsonl").exists()
    assert (tmp_path / "kept" / "server.safetensors").exists()


@pytest.mark.parametrize("option", ["log_file", "checkpoint_dir"])
def test_a_place_of_the_wrong_kind_fails_at_construction(
    option: str, tmp_path: Path
) -> None:
    wrong = tmp_path / "place"
    if option == "checkpoint_dir":
        wrong.write_text("")
    else:
        wrong.mkdir()
    with pytest.raises(ValueError, match=f"{option} .*place.* is a f"):
        LasgStrategy(**{option: wrong})  # type: ignore[arg-type]
