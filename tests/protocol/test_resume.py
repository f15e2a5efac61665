"""Server checkpoints: resume to the bit, refusals, and kill -9 while saving."""

import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord
from flwr.client import ClientApp

from experiments.inprocess import InProcessGrid
from lasg_flwr import CheckpointError
from lasg_flwr.protocol import files
from lasg_flwr.strategies import LasgResult, LasgStrategy
from lasg_flwr.strategies.checkpoints import FILE, Checkpoints
from tests.problems.flower_app import ORACLES, client_fn, initial_arrays
from tests.problems.resuming import OPTIONS, Stop, everything

pytestmark = pytest.mark.flower


def _strategy(folder: Path | None, **options: Any) -> LasgStrategy:
    settings: dict[str, Any] = {"step": 0.05, "seed": 3, "fraction_evaluate": 0.0}
    return LasgStrategy(checkpoint_dir=folder, **deepcopy({**settings, **options}))


def _run(
    strategy: LasgStrategy,
    grid: InProcessGrid,
    rounds: int = 20,
    die_after: int | None = None,
) -> LasgResult:
    def evaluate(round_: int, arrays: ArrayRecord) -> MetricRecord:
        if round_ == die_after:
            raise Stop
        return MetricRecord({"round": round_})

    return strategy.start(grid, initial_arrays(), rounds, evaluate_fn=evaluate)


def _grid() -> InProcessGrid:
    return InProcessGrid(ClientApp(client_fn), len(ORACLES))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("every", [1, 4])
def test_a_resumed_run_is_the_undisturbed_run_to_the_bit(
    name: str, every: int, tmp_path: Path
) -> None:
    options = OPTIONS[name]
    undisturbed = _strategy(None, **options)
    expected = _run(undisturbed, _grid())
    grid = _grid()
    options = {**options, "checkpoint_every": every}
    with pytest.raises(Stop):
        _run(_strategy(tmp_path, **options), grid, die_after=8)
    resumed = _strategy(tmp_path, **options)
    result = _run(resumed, grid)
    assert everything(resumed) == everything(undisturbed)
    assert sorted(result.evaluate_metrics_serverapp) == list(range(8, 21))
    assert sorted(result.train_metrics_clientapp) == list(range(9, 21))
    for key, array in expected.arrays.items():
        assert np.array_equal(result.arrays[key].numpy(), array.numpy())


def test_a_resume_as_a_new_flower_run_costs_no_refresh(tmp_path: Path) -> None:
    options: dict[str, Any] = {"rule": "wk2", "codec": "topk:k=2"}
    undisturbed = _run(_strategy(None, **options), _grid())
    state = {"lasg-state": "file", "lasg-state-dir": str(tmp_path / "states")}
    with pytest.raises(Stop):
        _run(_strategy(tmp_path, **options), _grid_of(1, **state), die_after=8)
    resumed = _run(_strategy(tmp_path, **options), _grid_of(2, **state))
    assert resumed.ledger.uplink_bytes == undisturbed.ledger.uplink_bytes
    for key, array in undisturbed.arrays.items():
        assert np.array_equal(resumed.arrays[key].numpy(), array.numpy())


def _grid_of(run_id: int, **node_config: Any) -> InProcessGrid:
    grid = _grid()
    for context in grid.contexts.values():
        context.run_id = run_id
        context.node_config.update(node_config)
    return grid


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    grid = _grid()
    first = _run(_strategy(tmp_path, checkpoint_every=7), grid)
    sent = len(grid.requests)
    again = _run(_strategy(tmp_path, checkpoint_every=7), grid)
    assert len(grid.requests) == sent
    for key, array in first.arrays.items():
        assert np.array_equal(again.arrays[key].numpy(), array.numpy())


def test_resume_false_starts_anew(tmp_path: Path) -> None:
    grid = _grid()
    _run(_strategy(tmp_path), grid, 3)
    result = _run(_strategy(tmp_path, resume=False), grid, 3)
    assert result.ledger.rounds == 3


def test_buffers_and_integers_come_back(tmp_path: Path) -> None:
    strategy = LasgStrategy(checkpoint_dir=tmp_path)
    arrays = ArrayRecord(
        {
            "w": Array(np.zeros(3, np.float32)),
            "bn.running_mean": Array(np.zeros(2, np.float32)),
            "steps": Array(np.array([7])),
        }
    )
    strategy.begin(arrays)
    server, model = strategy.server, strategy._core.model
    server.open_round([])
    server.close_round()
    server.buffer_mean.values = np.array([1.5, -2], np.float32)
    model.integers = np.array([9]).tobytes()
    strategy._save()
    again = LasgStrategy(checkpoint_dir=tmp_path)
    again.begin(arrays)
    restored = again._core.model.arrays(again.server)
    assert restored["bn.running_mean"].tolist() == [1.5, -2]
    assert restored["steps"].tolist() == [9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "pse"}, "rule is 'vr"),
        ({"codec": "topk:k=2"}, "codec is 'dense'"),
        ({"server_memory": "sum-only"}, "full_codec|server_memory is 'per-worker'"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    _run(_strategy(tmp_path), _grid(), 2)
    with pytest.raises(CheckpointError, match=message) as refusal:
        _run(_strategy(tmp_path, **change), _grid(), 2)
    assert "resume=False" in str(refusal.value)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    _run(_strategy(tmp_path), _grid(), 2)
    other = initial_arrays()
    other["layer.weight"] = Array(np.zeros((4, 1)))
    with pytest.raises(CheckpointError, match=r"another model: 'layer\.weight'"):
        _strategy(tmp_path).begin(other)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    _run(_strategy(tmp_path), _grid(), 2)
    arrays, meta = files.read(tmp_path / FILE)
    files.write(tmp_path / FILE, files.to_bytes(arrays, {**meta, "version": 99}))
    with pytest.raises(CheckpointError, match="version is 99"):
        _run(_strategy(tmp_path), _grid(), 2)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    _run(_strategy(tmp_path), _grid(), 2)
    data = bytearray((tmp_path / FILE).read_bytes())
    data[-1] ^= 1
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum"):
        _run(_strategy(tmp_path), _grid(), 2)


def test_an_interrupted_run_says_how_to_resume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grid = _grid()
    with pytest.raises(Stop):
        _run(_strategy(tmp_path), grid, die_after=5)
    assert f"resume from {tmp_path / FILE}" in caplog.text
    with pytest.raises(Stop):
        _run(_strategy(None), grid, die_after=5)
    assert "checkpoint_dir" in caplog.text


def test_bad_checkpoint_every() -> None:
    with pytest.raises(ValueError, match="checkpoint_every"):
        Checkpoints(Path(), 0)


_SAVE_FOR_EVER = """
import sys
from copy import deepcopy
from pathlib import Path
import numpy as np
from lasg_flwr import LasgConfig, LasgServer
from lasg_flwr.protocol.saving import save_server
server = LasgServer(np.zeros(300_000), LasgConfig("sgd"))
print("ready", flush=True)
while True:
    server.open_round([])
    server.close_round()
    server.theta = np.full(300_000, server.round, np.float32)
    save_server(server, Path(sys.argv[1]))
    print(server.round, flush=True)
"""


def _kill_while_saving(path: Path, kills: int) -> set[int]:
    """Kill a process that writes checkpoints, and look at what it leaves."""
    rng = np.random.default_rng(kills)
    seen = set()
    for _ in range(kills):
        command = [sys.executable, "-c", _SAVE_FOR_EVER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            assert process.stdout.readline() == "1\n"
            try:
                process.wait(float(rng.uniform(0.01, 0.25)))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            told = process.stdout.read().split()
        last = int(told[-1]) if told else 1
        arrays, meta = files.read(path)
        round_ = meta["state"]["fields"]["round"]
        assert round_ in (last, last + 1)
        assert np.all(arrays["theta"] == round_)
        assert len(list(path.parent.iterdir())) <= 2  # one may be half written
        seen.add(round_)
    return seen


def test_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    assert len(_kill_while_saving(tmp_path / "server.safetensors", 8)) > 1


@pytest.mark.long
def test_a_hundred_kills_leave_a_whole_checkpoint(tmp_path: Path) -> None:
    seen = _kill_while_saving(tmp_path / "server.safetensors", 100)
    print("rounds found in the checkpoints:", sorted(seen))
    assert len(seen) > 5
