"""Flower's Ray simulation: the engine's iterates to the bit, and Ctrl-C."""

import json
import os
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from experiments.flower_run import environment, flwr_run, processes_of, stop_daemons

from .digits_app import APP, Files, engine, theta_of
from .federation import until

METHODS = ("sgd", "lag", "wk1", "wk2", "ps", "pse")
ROUNDS = 20
WORKERS = 5

pytestmark = [
    pytest.mark.skipif(
        find_spec("ray") is None, reason="the extra 'simulation' is missing"
    ),
    pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to clean up"),
]


@pytest.mark.slow
@pytest.mark.ray
def test_ray_simulation_equals_the_engine(tmp_path: Path) -> None:
    files = Files(tmp_path)
    config = files.config(ROUNDS, *METHODS, workers=WORKERS)
    done = flwr_run(APP, config, WORKERS, timeout=280)
    assert files.result.exists(), done.stdout[-4000:] + done.stderr[-4000:]
    found = files.rows()
    for method in METHODS:
        with threadpool_limits(1):
            expected = engine(method, ROUNDS, workers=WORKERS)
        assert np.array_equal(theta_of(found[method]), expected.theta), method
        assert found[method]["ledger"]["uploads"] == expected.ledger.uploads
    uploads = {m: found[m]["ledger"]["uploads"] for m in METHODS}
    assert uploads["wk2"] < uploads["sgd"] == ROUNDS * WORKERS


def _simulations(home: Path) -> list[int]:
    return [pid for pid, line in processes_of(str(home)) if "flwr-simulation" in line]


def _flwr(settings: dict[str, str], *arguments: str) -> str:
    return subprocess.run(
        ["flwr", *arguments], env=settings, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.long
def test_a_stopped_simulation_says_how_to_resume(tmp_path: Path) -> None:
    """Ctrl-C in ``flwr run --stream`` leaves the log only, and the run goes on.

    SIGINT to its process ends it, and its log says how to resume; started again it
    goes on from the checkpoint.
    """
    files, settings = Files(tmp_path), environment(str(tmp_path))
    rare = "evaluate-every=1000"
    command = ["flwr", "run", str(APP), "--stream"]
    command += ["-c", files.kept_config(100_000, rare)]
    command += ["--federation-config", "num-supernodes=3 client-resources-num-cpus=1"]
    try:
        with subprocess.Popen(
            command, env=settings, stdout=subprocess.DEVNULL, start_new_session=True
        ) as stream:
            until(lambda: files.rounds_done() >= 1, 240)
            os.killpg(stream.pid, signal.SIGINT)  # as a terminal does
        before = files.rounds_done()
        time.sleep(5)
        assert files.rounds_done() > before, "Ctrl-C in the log stopped the run"
        for pid in _simulations(tmp_path):
            os.kill(pid, signal.SIGINT)
        until(lambda: not _simulations(tmp_path), 60)
        runs = json.loads(_flwr(settings, "list", "--format", "json"))["runs"]
        shown = _flwr(settings, "log", str(runs[0]["run-id"]), "--show")
    finally:
        stop_daemons(str(tmp_path))
    assert shown.count(f"run it again to resume from {files.saved}") == 1
    stopped_in = files.rounds_done()
    print(f"stopped after {stopped_in} rounds")
    flwr_run(APP, files.kept_config(stopped_in + 3, rare), 3)
    assert files.rows()["wk2"]["ledger"]["rounds"] == stopped_in + 3
