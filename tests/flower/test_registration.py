"""A rule, codec and step from outside: through Flower, a checkpoint and a resume."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.client import ClientApp

from experiments.inprocess import InProcessGrid
from lasg_flwr import CheckpointError, simulate
from lasg_flwr.strategies import LasgStrategy, LegacyLasgStrategy
from tests.problems.flower_app import ORACLES, SIZE, client_fn, vector_of
from tests.problems.outside import OPTIONS
from tests.problems.resuming import Stop, everything

pytestmark = pytest.mark.flower

ROUNDS = 25


def _grid() -> InProcessGrid:
    return InProcessGrid(ClientApp(client_fn), len(ORACLES))


def _run(
    grid: InProcessGrid, folder: Path | None = None, die_after: int | None = None
) -> LasgStrategy:
    def look(round_: int, arrays: ArrayRecord) -> None:
        if round_ == die_after:
            raise Stop

    strategy = LasgStrategy(
        fraction_evaluate=0.0, checkpoint_dir=folder, checkpoint_every=3, **OPTIONS
    )
    strategy.start(grid, vector_of(SIZE), ROUNDS, evaluate_fn=look)
    return strategy


def test_flower_takes_the_engines_path() -> None:
    engine = simulate(ORACLES, np.zeros(SIZE), rounds=ROUNDS, **OPTIONS)
    strategy = _run(_grid())
    assert strategy.server.theta.tobytes() == engine.theta.tobytes()
    ledger = strategy.server.ledger
    assert ledger.uplink_bytes == engine.ledger.uplink_bytes
    assert 0 < ledger.skips < ledger.downloads


def test_a_resumed_run_is_the_undisturbed_run_to_the_bit(tmp_path: Path) -> None:
    undisturbed, grid = _run(_grid(), tmp_path / "undisturbed"), _grid()
    with pytest.raises(Stop):
        _run(grid, tmp_path / "stopped", die_after=12)
    resumed = _run(grid, tmp_path / "stopped")
    assert everything(resumed) == everything(undisturbed)


def test_a_checkpoint_of_another_step_is_refused(tmp_path: Path) -> None:
    _run(_grid(), tmp_path)
    changed: dict[str, Any] = {**OPTIONS, "step": "adam:rate=0.05"}
    strategy = LasgStrategy(checkpoint_dir=tmp_path, **changed)
    with pytest.raises(CheckpointError, match="step is 'test-averaging'"):
        strategy.begin(vector_of(SIZE))


def test_the_older_strategy_takes_them_as_well() -> None:
    assert repr(LegacyLasgStrategy(**OPTIONS)).startswith("LegacyLasgStrategy('test-")
