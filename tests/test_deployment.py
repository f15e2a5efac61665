"""Real processes: deployment with TLS and node authentication, and Ray."""

from importlib.util import find_spec
from pathlib import Path

import pytest

ROUNDS = 20

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        find_spec("cryptography") is None, reason="makes certificates with cryptography"
    ),
    pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to clean up"),
]


@pytest.mark.parametrize("keep_state", [True, False])
def test_killed_processes_and_a_resumed_run(keep_state: bool) -> None:
    from experiments.deployment_faults import disturb

    outcome = disturb(ROUNDS, keep_state)
    assert outcome.ledger["rounds"] == ROUNDS
    assert 2 <= outcome.killed_in_round < ROUNDS
    assert outcome.loss <= 1.02 * outcome.undisturbed


def test_a_stopped_run_says_how_to_resume_and_does_to_the_bit() -> None:
    from experiments.deployment_interrupt import interrupt

    assert interrupt(8).failures() == []


def test_a_stopped_simulation_says_how_to_resume() -> None:
    pytest.importorskip("ray", reason="the extra 'simulation' is missing")
    from experiments.simulation_interrupt import interrupt

    assert interrupt().failures() == []


def test_eleven_million_parameters_keep_their_state() -> None:
    from experiments.deployment_large import SIZE, deploy

    found = deploy()
    assert found["ledger"]["rounds"] == 5
    for state in found["states"]:
        assert state["agrees"]
        assert state["round"] == 4
        assert state["bytes"] > 2 * 4 * SIZE


def test_deployment_equals_the_engine_and_bytes_agree() -> None:
    from experiments.deployment_check import deploy

    outcome = deploy(rounds=4, timeout=400)
    assert outcome.failures(4) == []
    uploads = {m: row["ledger"]["uploads"] for m, row in outcome.rows.items()}
    assert set(uploads) == {"wk2", "pse"}
    assert all(0 < count < 4 * 3 for count in uploads.values())
