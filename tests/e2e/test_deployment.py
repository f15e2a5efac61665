"""Real processes on loopback, with TLS and node authentication, give the engine's bits.

Each test takes one to ten minutes; ``-s`` shows what came of it.
"""

import shutil
import signal
import time
from collections.abc import Callable

import numpy as np
import pytest

from .digits_app import APP, Files, engine, task, theta_of
from .federation import Federation, until

pytestmark = pytest.mark.long

ROUNDS = 20
TOLERANCE = 0.03
DOWNLINK = "ecsq:error=0.1"


@pytest.mark.parametrize("downlink", ["dense", DOWNLINK])
def test_deployment_equals_the_engine_and_bytes_agree(
    federation: Federation, downlink: str
) -> None:
    """The ledger's message bytes are Flower's own ``network-traffic`` within 3 %."""
    rounds, files = 4, Files(federation.home)
    config = files.config(rounds, "wk2", "pse", more=f'downlink="{downlink}"')
    log = federation.run(APP, config, timeout=400)
    assert files.result.exists(), log[-4000:]
    traffic = federation.last_run()["network-traffic"]
    rows = files.rows()
    assert set(rows) == {"wk2", "pse"}
    for method, row in rows.items():
        print(method, row["ledger"], row["seconds"])
        expected = engine(method, rounds, downlink=downlink)
        assert np.array_equal(theta_of(row), expected.theta), method
        assert row["ledger"]["step_bytes"] == expected.ledger.step_bytes
        assert (expected.ledger.step_bytes > 0) == (downlink != "dense")
        assert 0 < row["ledger"]["uploads"] < rounds * 3
    for ours, theirs in (("uplink", "inbound"), ("downlink", "outbound")):
        counted = sum(row["ledger"][f"{ours}_message_bytes"] for row in rows.values())
        seen = traffic[f"{theirs}-bytes"]
        print(f"{ours}: {counted} message bytes, Flower {seen}")
        assert abs(counted - seen) <= TOLERANCE * seen, ours


@pytest.mark.parametrize("downlink", ["dense", DOWNLINK])
@pytest.mark.parametrize("keep_state", [True, False])
def test_killed_processes_and_a_resumed_run(
    federation: Federation, keep_state: bool, downlink: str
) -> None:
    """kill -9 of a ClientApp that trains, of a SuperNode and of the ServerApp.

    The SuperNode is killed in mid-round and comes back, with its state folder or
    without; the run is started again and resumes.
    """
    codec, files = "topk:k=65", Files(federation.home)
    more = f'codec="{codec}" downlink="{downlink}" round-seconds=60.0'
    config = files.kept_config(ROUNDS, more)
    state = federation.home / "state1"
    federation.submit(APP, config)
    until(lambda: files.rounds_done() >= 1, 120)
    until(lambda: federation.kill("flwr-clientapp"), 60)
    until(lambda: files.rounds_done() >= 2, 180)
    until(state.exists, 180)  # a slow node may miss a round
    time.sleep(4)  # into the next round
    federation.kill_node(1)
    if not keep_state:
        shutil.rmtree(state)
    federation.revive_node(1)
    killed_in_round = files.rounds_done()
    federation.kill("flwr-serverapp")
    federation.submit(APP, config)
    until(files.result.exists, 120 + 30 * ROUNDS)
    time.sleep(1)
    row = files.rows()["wk2"]
    loss = task().loss(theta_of(row))
    calm = engine("wk2", ROUNDS, codec, downlink=downlink)
    undisturbed = task().loss(calm.theta)
    print(f"killed in round {killed_in_round}; loss {loss:.4f}, else {undisturbed:.4f}")
    print(row["ledger"])
    assert row["ledger"]["rounds"] == ROUNDS
    assert 2 <= killed_in_round < ROUNDS
    assert loss <= 1.02 * undisturbed


WAYS: dict[str, Callable[[Federation, str], object]] = {
    "SIGINT": lambda f, _: f.kill("flwr-serverapp", by=signal.SIGINT),
    "SIGTERM": lambda f, _: f.kill("flwr-serverapp", by=signal.SIGTERM),
    "flwr stop": lambda f, run_id: f.stop(run_id),
}


def test_a_stopped_run_says_how_to_resume_and_does_to_the_bit(
    federation: Federation,
) -> None:
    """One run, stopped in each way somewhere within a round, and started again.

    Its log, as ``flwr log`` shows it, must end with how to resume; after ``flwr stop``
    the SuperLink takes no more of it, and the line at its beginning must do.
    """
    rounds, files = 8, Files(federation.home)
    config = files.kept_config(rounds)

    def has_ended() -> bool:
        return not federation.kill("flwr-serverapp", by=0)

    for way, stop in WAYS.items():
        wanted = files.rounds_done() + 1
        run_id = federation.submit(APP, config)
        until(lambda wanted=wanted: files.rounds_done() >= wanted, 120)  # type: ignore[misc]
        stop(federation, run_id)
        until(has_ended, 60)
        shown = federation.run_log(run_id)
        said = shown.count(f"run it again to resume from {files.saved}")
        print(f"{way}: stopped after round {files.rounds_done()}")
        assert shown.count(f"Checkpoint: {files.saved}") == 1, way
        assert said == (way != "flwr stop"), way
    federation.submit(APP, config)
    until(files.result.exists, 60 + 30 * rounds)
    until(has_ended, 60)
    theta = theta_of(files.rows()["wk2"])
    assert np.array_equal(theta, engine("wk2", rounds).theta)
