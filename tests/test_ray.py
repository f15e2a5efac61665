"""Flower's Ray simulation gives the engine's iterates to the bit."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from experiments.flower_run import flwr_run
from experiments.methods import Hyperparameters, build_rule
from experiments.tasks import Batch, build_task
from lasg_flwr import simulate

ROOT = Path(__file__).parent.parent
METHODS = ("sgd", "lag", "wk1", "wk2", "ps", "pse")
ROUNDS = 20
WORKERS = 5


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(
    find_spec("ray") is None, reason="the extra 'simulation' is missing"
)
@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to clean up")
def test_ray_simulation_equals_the_engine(tmp_path: Path) -> None:
    result_file = tmp_path / "result.json"
    run_config = (
        f'num-server-rounds={ROUNDS} min-nodes={WORKERS} method="{",".join(METHODS)}" '
        f'learning-rate=0.5 max-delay=15 result-file="{result_file}"'
    )
    done = flwr_run(ROOT, run_config, WORKERS, timeout=280)
    assert result_file.exists(), done.stdout[-4000:] + done.stderr[-4000:]
    found = json.loads(result_file.read_text())
    task = build_task("digits", WORKERS, "iid", Batch(size=32))
    parameters = Hyperparameters(learning_rate=0.5, max_delay=15)
    for method in METHODS:
        with threadpool_limits(1):
            expected = simulate(
                task.oracles,
                np.zeros(task.size),
                rounds=ROUNDS,
                rule=build_rule(method, parameters, task.oracles),
                step=0.5,
            )
        assert np.array_equal(np.float32(found[method]["theta"]), expected.theta), (
            method
        )
        assert found[method]["ledger"]["uploads"] == expected.ledger.uploads
    uploads = {m: found[m]["ledger"]["uploads"] for m in METHODS}
    assert uploads["wk2"] < uploads["sgd"] == ROUNDS * WORKERS
