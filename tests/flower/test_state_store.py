"""Worker state in files: restarts, damage, locks, and the threshold."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.client import ClientApp

from experiments.inprocess import InProcessGrid
from lasg_flwr import LasgConfig, LasgServer, simulate
from lasg_flwr.clients import state_store
from lasg_flwr.clients.state_store import ContextStore, StateFile
from lasg_flwr.errors import CheckpointError, LasgError, StateInUseError
from lasg_flwr.protocol import WorkerState, files, saving
from lasg_flwr.strategies import LasgStrategy
from tests.problems.flower_app import client_fn_of, vector_of
from tests.problems.least_squares import least_squares

pytestmark = pytest.mark.flower

ORACLES = least_squares(workers=3)
SIZE = ORACLES[0].size
OPTIONS: dict[str, Any] = {"rule": "wk2", "codec": "topk:k=2", "step": 0.05}
SERVER = LasgServer(np.zeros(SIZE), LasgConfig(**OPTIONS))
REQUEST = SERVER.open_round([0])[0][1]
HEAD, SETTINGS = REQUEST.head(), REQUEST.settings


def _grid(**node_config: Any) -> InProcessGrid:
    grid = InProcessGrid(ClientApp(client_fn_of(ORACLES.__getitem__)), len(ORACLES))
    for context in grid.contexts.values():
        context.node_config.update(node_config)
    return grid


def _run(grid: InProcessGrid, each_round: Any = None) -> tuple[bytes, Any]:
    strategy = LasgStrategy(fraction_evaluate=0.0, **OPTIONS)
    result = strategy.start(grid, vector_of(SIZE), 20, evaluate_fn=each_round)
    return result.arrays["theta"].numpy().tobytes(), result.ledger


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("run-*/*.safetensors"))


def test_restarted_clients_go_on_from_their_folder(tmp_path: Path) -> None:
    grid = _grid(**{"lasg-state": "file", "lasg-state-dir": str(tmp_path)})

    def restart(round_: int, arrays: ArrayRecord) -> None:
        for context in grid.contexts.values():
            context.state.clear()

    theta, ledger = _run(grid, restart)
    engine = simulate(ORACLES, np.zeros(SIZE), rounds=20, **OPTIONS)
    assert theta == engine.theta.tobytes()
    assert ledger.uplink_bytes == engine.ledger.uplink_bytes
    assert len(_files(tmp_path)) == 3


def test_an_emptied_folder_is_a_refresh(tmp_path: Path) -> None:
    grid = _grid(**{"lasg-state": "file", "lasg-state-dir": str(tmp_path)})

    def lose(round_: int, arrays: ArrayRecord) -> None:
        if round_ == 10:
            for file in _files(tmp_path):
                file.unlink()

    _, ledger = _run(grid, lose)
    engine = simulate(ORACLES, np.zeros(SIZE), rounds=20, **OPTIONS)
    assert not ledger.refused
    assert ledger.uplink_bytes != engine.ledger.uplink_bytes


def test_the_context_only_says_where_the_state_is(tmp_path: Path) -> None:
    grid = _grid(**{"lasg-state": "file", "lasg-state-dir": str(tmp_path)})
    _run(grid)
    for context in grid.contexts.values():
        (record,) = context.state.config_records.values()
        assert record["file"] in {str(f) for f in _files(tmp_path)}
        assert record["turn"] == 20
        assert state_store.load_state(context.state) is None


@pytest.mark.parametrize(("mib", "files"), [(32, 0), (0.0001, 3)])
def test_auto_uses_files_above_the_threshold(
    tmp_path: Path, mib: float, files: int
) -> None:
    config = {"lasg-state-dir": str(tmp_path), "lasg-state-threshold-mib": mib}
    grid = _grid(**config)
    _run(grid)
    assert len(_files(tmp_path)) == files
    kept = [state_store.load_state(c.state) for c in grid.contexts.values()]
    assert all((state is None) == bool(files) for state in kept)


def test_a_damaged_file_is_a_refresh_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = StateFile(tmp_path, 1, 0)
    grid = _grid(**{"lasg-state": "file", "lasg-state-dir": str(tmp_path)})

    def damage(round_: int, arrays: ArrayRecord) -> None:
        if round_ == 10:
            data = bytearray(store.path.read_bytes())
            data[-1] ^= 1  # within an array: only a checksum can tell
            store.path.write_bytes(data)
            with pytest.raises(CheckpointError, match="checksum"):
                store.load(HEAD, SETTINGS)

    _, ledger = _run(grid, damage)
    assert not ledger.refused


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    store = StateFile(tmp_path, 1, 0)
    store.write(files.to_bytes({}, {"version": 99}))
    with pytest.raises(CheckpointError, match="version is 99"):
        store.load(HEAD, SETTINGS)


def test_a_new_run_finds_the_state_that_the_server_means(tmp_path: Path) -> None:
    grid = _grid(**{"lasg-state": "file", "lasg-state-dir": str(tmp_path)})
    _run(grid)
    old = StateFile(tmp_path, 1, 0).load(HEAD, SETTINGS)
    assert old is not None
    committed = old.committed or old.pending
    assert committed is not None
    resumed = StateFile(tmp_path, 2, 0)
    assert resumed.load(HEAD, SETTINGS) is None
    assert resumed.load(HEAD._replace(accepted_id=bytes(16)), SETTINGS) is None
    found = resumed.load(HEAD._replace(accepted_id=committed.id), SETTINGS)
    assert found is not None
    assert found.answered == old.answered


_HOLD = """
import sys, time
from pathlib import Path
from lasg_flwr.clients.state_store import StateFile
with StateFile(Path(sys.argv[1]), 1, 0).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_process_on_a_folder_gets_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_store, "LOCK_SECONDS", 0.1)
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with (
                pytest.raises(StateInUseError, match="lasg-state-dir"),
                StateFile(tmp_path, 1, 0).locked(),
            ):
                pass
            with StateFile(tmp_path, 1, 1).locked():
                pass
        finally:
            holder.kill()
    time.sleep(0.05)
    with StateFile(tmp_path, 1, 0).locked():  # a killed process leaves no lock
        pass


_FORK = """
import os, sys, time
from pathlib import Path
from lasg_flwr.clients.state_store import StateFile
file = StateFile(Path(sys.argv[1]), 1, 0)
with file.locked():
    if not os.fork():  # as a DataLoader's persistent worker
        time.sleep(20)
        os._exit(0)
try:
    with file.locked():
        print("again")
finally:
    os.killpg(0, 9)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_forked_under_the_lock_does_not_keep_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-uc", _FORK, str(tmp_path)],
        capture_output=True,
        start_new_session=True,
    )
    assert done.stdout == b"again\n", done.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [("lasg-state", "disk"), ("lasg-state-threshold-mib", -1)],
)
def test_bad_node_configuration_is_refused(key: str, value: Any) -> None:
    context = _grid().contexts[1000]
    context.node_config[key] = value
    with pytest.raises(ValueError, match=key):
        ContextStore(context, 0)


def test_the_default_folder_is_the_users_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    context = _grid().contexts[1000]
    context.node_config["lasg-state"] = "file"
    store = ContextStore(context, 0)
    store.save(WorkerState(answered=(bytes(16), 3)), SETTINGS)
    assert _files(tmp_path / "lasg-flwr") == [store.file.path]
    assert store.load(HEAD, SETTINGS) == WorkerState(answered=(bytes(16), 3))


def _homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: no HOME, and no passwd entry."""

    def no_home(self: Path) -> Path:
        if str(self).startswith("~"):
            raise RuntimeError("Could not determine home directory.")
        return self

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", no_home)


@pytest.mark.parametrize("mode", ["auto", "memory"])
def test_without_a_home_the_state_stays_in_memory(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _homeless(monkeypatch)
    theta, ledger = _run(_grid(**{"lasg-state": mode}))
    engine = simulate(ORACLES, np.zeros(SIZE), rounds=20, **OPTIONS)
    assert theta == engine.theta.tobytes()
    assert ledger.uplink_bytes == engine.ledger.uplink_bytes


def test_without_a_home_a_large_state_stays_in_memory_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _homeless(monkeypatch)
    theta, _ = _run(_grid(**{"lasg-state-threshold-mib": 0}))
    engine = simulate(ORACLES, np.zeros(SIZE), rounds=20, **OPTIONS)
    assert theta == engine.theta.tobytes()
    assert "lasg-state-dir" in caplog.text


def test_without_a_home_a_file_is_an_error_that_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _homeless(monkeypatch)
    context = _grid().contexts[1000]
    context.node_config["lasg-state"] = "file"
    store = ContextStore(context, 0)
    with pytest.raises(LasgError, match="lasg-state-dir"), store.locked():
        pass


def test_a_folder_that_may_not_be_searched_is_no_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", forbidden)
    theta, _ = _run(_grid(**{"lasg-state-dir": "/nowhere"}))
    engine = simulate(ORACLES, np.zeros(SIZE), rounds=20, **OPTIONS)
    assert theta == engine.theta.tobytes()


def test_a_folder_that_is_a_file_is_an_error_where_a_file_is_asked_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    context = _grid().contexts[1000]
    context.node_config["lasg-state"] = "file"
    context.node_config["lasg-state-dir"] = str(tmp_path / "file")
    store = ContextStore(context, 0)
    with pytest.raises(LasgError, match=r"cannot be saved: .*lasg-state-dir"):
        store.save(WorkerState(), SETTINGS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@pytest.mark.parametrize("planted", ["fifo", "link"])
def test_what_was_planted_in_place_of_a_state_is_replaced(
    tmp_path: Path, planted: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = StateFile(tmp_path, 1, 0)
    store.path.parent.mkdir()
    (tmp_path / "precious").write_bytes(b"precious")
    if planted == "fifo":
        os.mkfifo(store.path)
    else:
        store.path.symlink_to(tmp_path / "precious")
    theta, _ = _run(_grid(**{"lasg-state": "file", "lasg-state-dir": str(tmp_path)}))
    engine = simulate(ORACLES, np.zeros(SIZE), rounds=20, **OPTIONS)
    assert theta == engine.theta.tobytes()
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert caplog.text.count("starting anew") == 1


def test_a_file_that_is_taken_over_goes_once_the_new_one_is_written(
    tmp_path: Path,
) -> None:
    grid = _grid(**{"lasg-state": "file", "lasg-state-dir": str(tmp_path)})
    _run(grid)
    old = StateFile(tmp_path, 1, 0)
    state = old.load(HEAD, SETTINGS)
    assert state is not None
    slot = state.committed or state.pending
    assert slot is not None
    resumed = StateFile(tmp_path, 2, 0)
    found = resumed.load(HEAD._replace(accepted_id=slot.id), SETTINGS)
    assert found is not None
    assert old.path.exists()  # until the new file is whole
    resumed.write(saving.dump_worker(found, SETTINGS))
    assert not old.path.exists()
    assert old.path.parent.exists()  # the other workers of that run
    assert resumed.load(HEAD, SETTINGS) is not None


def test_states_that_nobody_touched_for_a_month_go(tmp_path: Path) -> None:
    files_ = [StateFile(tmp_path, run, 0) for run in range(3)]
    for file in files_[:2]:
        file.write(saving.dump_worker(WorkerState(), SETTINGS))
    month = time.time() - 31 * 86_400
    os.utime(files_[0].path, (month, month))
    files_[2].write(saving.dump_worker(WorkerState(), SETTINGS))
    assert [file.path.exists() for file in files_] == [False, True, True]
    assert not files_[0].path.parent.exists()
