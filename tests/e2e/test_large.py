"""As many parameters as ResNet18 between real processes, and on the workers' disks."""

import json
from pathlib import Path

import pytest

from lasg_flwr import LasgConfig
from lasg_flwr.protocol import saving
from tests.e2e.federation import Federation

APP = Path(__file__).parent / "large"
SIZE = 11_181_642
"""Parameters of ResNet18 for ten classes."""
CODEC = "topk:k=100000"
"""With a lossy codec a worker keeps θ and h of two uploads: 179 MB."""
ROUNDS = 5
SETTINGS = LasgConfig("wk2", CODEC, step=0.5).settings


@pytest.mark.long
def test_eleven_million_parameters_keep_their_state(federation: Federation) -> None:
    """Each worker's file holds the last round and the upload that the server knows."""
    result = federation.home / "result.json"
    config = f'rounds={ROUNDS} size={SIZE} codec="{CODEC}" result="{result}"'
    log = federation.run(APP, config, timeout=500)
    assert result.exists(), log[-4000:]
    found = json.loads(result.read_text())
    print(found)
    assert found["ledger"]["rounds"] == ROUNDS
    assert len(found["ids"]) == 3
    for key, id_ in found["ids"].items():
        (path,) = (federation.home / f"state{key}").glob("run-*/*.safetensors")
        print(path.stat().st_size, "bytes of state")
        assert path.stat().st_size > 2 * 4 * SIZE
        state = saving.load_worker(path.read_bytes(), SETTINGS)
        assert state.answered is not None
        assert state.answered[1] == ROUNDS  # turns are counted from 1
        slots = [s for s in (state.committed, state.pending) if s is not None]
        assert id_ in [slot.id.hex() for slot in slots]


@pytest.mark.long
def test_both_directions_at_a_twelfth(federation: Federation) -> None:
    """Flower's own count of bytes, against the model and an update for each request."""
    result, rounds = federation.home / "result.json", 20
    coded = 'memory="error" codec="ecsq:error=0.3" downlink="ecsq:error=0.1"'
    config = f'rounds={rounds} size={SIZE} rule="sgd" {coded} result="{result}"'
    log = federation.run(APP, config, timeout=1500)
    assert result.exists(), log[-4000:]
    ledger = json.loads(result.read_text())["ledger"]
    traffic = federation.last_run()["network-traffic"]
    moved = traffic["inbound-bytes"] + traffic["outbound-bytes"]
    print(ledger, traffic)
    assert ledger["uploads"] == 3 * rounds
    assert moved <= 2 * 3 * rounds * 4 * SIZE / 12
    counted = ledger["uplink_message_bytes"] + ledger["downlink_message_bytes"]
    assert abs(counted - moved) <= 0.03 * moved
