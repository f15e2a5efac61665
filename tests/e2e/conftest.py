"""The one fixture of the deployment tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .federation import Federation


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    """Three SuperNodes and a SuperLink on loopback: TLS and node authentication."""
    if not Path("/proc").exists():
        pytest.skip("needs /proc to clean up")
    with Federation(tmp_path) as running:
        yield running
