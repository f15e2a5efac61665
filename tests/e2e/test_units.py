"""The systemd units of the documentation: their syntax, and the commands they start."""

import os
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from flwr.common.config import parse_config_args

FOLDER = Path(__file__).parents[2] / "docs" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
VARIABLES = {
    **dict(
        line.split("=", 1)
        for line in (FOLDER / "device.env").read_text().splitlines()
        if not line.startswith("#")
    ),
    "STATE_DIRECTORY": "/var/lib/flower",
}


def _unit(path: Path) -> ConfigParser:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text().replace("\\\n", " "))
    return unit


def _command(path: Path) -> list[str]:
    """Split a command as systemd does, which quotes like a shell here."""
    words = shlex.split(_unit(path)["Service"]["ExecStart"])
    for name, value in VARIABLES.items():
        words = [word.replace(f"${{{name}}}", value) for word in words]
    assert "$" not in "".join(words)
    return words


def test_there_are_two_units_that_restart() -> None:
    assert [path.name for path in UNITS] == [
        "flower-superlink.service",
        "flower-supernode.service",
    ]
    for path in UNITS:
        assert _unit(path)["Service"]["Restart"] == "always"
        assert _unit(path)["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_flower_knows_every_option(path: Path) -> None:
    program, *arguments = _command(path)
    known = subprocess.run(
        [Path(sys.executable).parent / Path(program).name, "--help"],
        env={**os.environ, "FLWR_TELEMETRY_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    options = [word for word in arguments if word.startswith("--")]
    assert len(options) >= 4
    for option in options:
        assert any(word.strip("[]") == option for word in known), option


def test_the_node_config_is_what_the_clients_read() -> None:
    words = _command(FOLDER / "flower-supernode.service")
    config = parse_config_args([words[words.index("--node-config") + 1]])
    assert config == {
        "partition-id": 0,
        "num-partitions": 3,
        "lasg-state": "file",
        "lasg-state-dir": "/var/lib/flower",
    }


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_accepts_the_unit(path: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / path.name  # the program must exist where the unit is checked
    unit.write_text(path.read_text().replace("/opt/flower/bin", str(tmp_path)))
    for name in ("flower-superlink", "flower-supernode"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [program, "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert path.name not in done.stderr
