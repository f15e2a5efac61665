"""A newcomer with only the wheel: from `lasg-flwr new` to a plotted run."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from experiments.flower_run import environment, stop_daemons

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, without a network."""
    pytest.importorskip("hatchling", reason="builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir")
    command = [sys.executable, "-m", "pip", "wheel", *options, str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"lasg_flwr"}
    assert "lasg_flwr/cli/template/lazyapp/task.py.txt" in names
    assert "lasg_flwr/py.typed" in names


@pytest.mark.slow
@pytest.mark.ray
def test_four_commands_from_the_wheel_to_a_picture(wheel: Path, tmp_path: Path) -> None:
    """`pip install`, `lasg-flwr new`, `flwr run`, `lasg-flwr plot`, as README says."""
    pytest.importorskip("matplotlib")
    site, app = tmp_path / "site", tmp_path / "myapp"
    with tempfile.TemporaryDirectory(prefix="lasg-flower-") as home:
        env = {**environment(home), "PYTHONPATH": str(site)}

        def run(*command: str, where: Path = tmp_path) -> str:
            done = subprocess.run(
                command, cwd=where, env=env, capture_output=True, text=True, timeout=280
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout + done.stderr

        try:
            pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps")
            run(*pip, "--target", str(site), str(wheel))
            command = str(site / "bin" / "lasg-flwr")
            where = f"import lasg_flwr; print({str(site)!r} in lasg_flwr.__file__)"
            assert run(sys.executable, "-c", where).strip() == "True"
            run(command, "new", str(app))
            said = run("flwr", "run", ".", "--stream", where=app)
            assert "lasg: round 20: contacted 2" in said
            run(command, "plot", str(app / "run.jsonl"))
        finally:
            stop_daemons(home)
    assert (app / "run.png").stat().st_size > 5_000
    assert (app / "model.npz").exists()
    assert os.listdir(site / "lasg_flwr")
