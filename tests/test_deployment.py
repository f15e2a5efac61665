"""Real processes with TLS and node authentication."""

from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        find_spec("cryptography") is None, reason="makes certificates with cryptography"
    ),
    pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to clean up"),
]


def test_deployment_equals_the_engine_and_bytes_agree() -> None:
    from experiments.deployment_check import deploy

    outcome = deploy(rounds=4, timeout=400)
    assert outcome.failures(4) == []
    uploads = {m: row["ledger"]["uploads"] for m, row in outcome.rows.items()}
    assert set(uploads) == {"wk2", "pse"}
    assert all(0 < count < 4 * 3 for count in uploads.values())
