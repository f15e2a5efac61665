"""Ctrl-C at any moment: the run says how to resume, and resumes to the bit."""

import sys
import threading
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, MetricRecord
from flwr.client import ClientApp

import lasg_flwr
from experiments.inprocess import InProcessGrid
from lasg_flwr.errors import StateInUseError
from lasg_flwr.strategies import LasgStrategy, checkpoints, resume_hint
from lasg_flwr.strategies.checkpoints import FILE
from tests.problems.flower_app import ORACLES, client_fn, initial_arrays
from tests.problems.resuming import OPTIONS, everything

pytestmark = pytest.mark.flower

PACKAGE = str(Path(lasg_flwr.__file__).parent)
HINT = str(resume_hint.__file__)
ROUNDS = 4
MOMENTS = {
    "configure_train": 2,  # before and while requests are made
    "take": 2,  # between replies
    "close_round": 2,
    "capture": 1,  # the checkpoint is put together,
    "write": 4,  # and written
    "aggregate_evaluate": 2,
    "look": 1,  # evaluation on the server
    "": 8,  # anywhere, clients included
}


class Interrupter:
    """Counts the lines that `start` runs; raises KeyboardInterrupt at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.functions: list[str] = []

    def __enter__(self) -> "Interrupter":
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        file = frame.f_code.co_filename
        ours = file.startswith(PACKAGE) or file == __file__
        return self._line if ours and file != HINT else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line" and resume_hint._running:
            self.functions.append(frame.f_code.co_name)
            if len(self.functions) == self.at:
                raise KeyboardInterrupt
        return self._line


def _strategy(folder: Path | None, options: dict[str, Any]) -> LasgStrategy:
    return LasgStrategy(checkpoint_dir=folder, step=0.05, seed=3, **deepcopy(options))


def _start(strategy: LasgStrategy, grid: InProcessGrid) -> None:
    def look(round_: int, arrays: ArrayRecord) -> MetricRecord:
        return MetricRecord({"round": round_})

    strategy.start(grid, initial_arrays(), ROUNDS, evaluate_fn=look)


def _grid() -> InProcessGrid:
    return InProcessGrid(ClientApp(client_fn), len(ORACLES))


def _places(functions: list[str], rng: np.random.Generator) -> list[int]:
    """Draw the lines to interrupt, of each function as many as `MOMENTS` says."""
    places: list[int] = []
    for name, count in MOMENTS.items():
        found = [i + 1 for i, f in enumerate(functions) if name in ("", f)]
        places += rng.choice(found, count, replace=False).tolist()
    return places


# Ctrl-C as a file is about to be closed leaves that to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["wk2 topk", "wk1 sum-only"])
def test_an_interrupted_run_resumes_to_the_bit(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = OPTIONS[name]
    undisturbed = _strategy(tmp_path / "undisturbed", options)
    with Interrupter() as counter:
        _start(undisturbed, _grid())
    expected = everything(undisturbed)
    for place in _places(counter.functions, np.random.default_rng(0)):
        folder, grid = tmp_path / str(place), _grid()
        caplog.clear()
        with pytest.raises(KeyboardInterrupt), Interrupter(place):
            _start(_strategy(folder, options), grid)
        has_one = (folder / FILE).exists()
        said = f"resume from {folder / FILE}" if has_one else "no checkpoint in"
        assert caplog.text.count(said) == 1
        resumed = _strategy(folder, options)
        _start(resumed, grid)
        assert everything(resumed) == expected
        names = {path.name for path in folder.iterdir()}
        assert names == {FILE, Path(FILE).with_suffix(".lock").name}


def _collect(say: Callable[[], None]) -> None:
    thread = threading.Thread(target=say)
    thread.start()
    thread.join()


def test_flowers_exit_handlers_say_it_once_and_before_the_log_is_uploaded(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers: list[Callable[[], None]] = []
    monkeypatch.setattr(resume_hint, "add_exit_handler", handlers.append)
    for name in ("_registered", "_ending"):
        monkeypatch.setattr(resume_hint, name, threading.Event())
    strategy = _strategy(tmp_path, OPTIONS["wk2 topk"])

    def end(round_: int, arrays: ArrayRecord) -> None:
        if round_ == 2:
            for handler in handlers:
                _collect(handler)  # in a simulation, from another thread
            assert caplog.text.count("run it again to resume from") == 1

    with pytest.raises(SystemExit):
        strategy.start(_grid(), initial_arrays(), ROUNDS, evaluate_fn=end)
    assert len(handlers) == 1
    assert caplog.text.count("run it again to resume from") == 1
    assert strategy.server.round == 2  # no other round was begun
    resume_hint._ending.clear()
    _start(_strategy(tmp_path, OPTIONS["wk2 topk"]), _grid())
    handlers[0]()
    assert caplog.text.count("run it again to resume from") == 1


def test_a_second_run_on_the_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LOCK_SECONDS", 0.1)
    first = checkpoints.Checkpoints(tmp_path, 1)
    second = _strategy(tmp_path, OPTIONS["wk2 topk"])
    with first.locked(), pytest.raises(StateInUseError, match="checkpoint_dir"):
        _start(second, _grid())
    _start(second, _grid())
