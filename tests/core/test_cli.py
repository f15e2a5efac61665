"""The command lasg-flwr: a new app that runs, a picture of its log, a comparison."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from typer.testing import CliRunner

from experiments.dropin.projects import load_apps
from experiments.inprocess import InProcessGrid
from lasg_flwr import __version__, simulate
from lasg_flwr.cli import app, demo
from lasg_flwr.history import read_log

NAMES = (
    *("README.md", "lazyapp/__init__.py", "lazyapp/client_app.py"),
    *("lazyapp/server_app.py", "lazyapp/task.py", "pyproject.toml"),
)


def lasg_flwr(*arguments: Any) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_version() -> None:
    assert lasg_flwr("--version").strip() == f"lasg-flwr {__version__}"
    assert "demo" in CliRunner().invoke(app, ["--help"]).output


def test_a_new_app_runs_and_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "mine"
    said = lasg_flwr("new", folder)
    assert "flwr run . --stream" in said
    found = [p.relative_to(folder).as_posix() for p in folder.rglob("*.*")]
    assert sorted(found) == sorted(NAMES)
    apps = load_apps(folder)
    config = {**apps.config, "num-server-rounds": 8}
    grid = InProcessGrid(apps.client, 4, run_config=config)
    apps.server(grid, Context(1, 1, {}, RecordDict(), config))
    history = read_log(folder / "run.jsonl")
    accuracy = history.evaluated().column("accuracy")
    assert accuracy[-1] > max(0.4, accuracy[0])
    dense = 4 * 4 * 8 * sum(a.size for a in np.load(folder / "model.npz").values())
    assert 10 * history.rows[-1].uplink_bytes < dense
    said = lasg_flwr("plot", folder / "run.jsonl")
    assert (folder / "run.png").read_bytes()[:4] == b"\x89PNG"
    assert str(folder / "run.png") in said.replace("\n", "")


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    run = CliRunner().invoke
    there = run(app, ["new", str(tmp_path)])
    assert there.exit_code == 2
    assert "there already" in there.output
    log = tmp_path / "log"
    log.write_text("nonsense\n")
    assert run(app, ["plot", str(log)]).exit_code == 2
    assert run(app, ["plot", str(tmp_path / "nothing")]).exit_code == 2


def test_the_demo_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    few = {name: demo.SETTINGS[name] for name in ("SGD", "lazy (wk2)")}
    monkeypatch.setattr(demo, "SETTINGS", few)
    out = tmp_path / "demo.png"
    lines = lasg_flwr("demo", "--rounds", 20, "--out", out).splitlines()
    assert [line.split("  ")[0] for line in lines[1:3]] == ["SGD", "lazy (wk2)"]
    assert " 200 " in lines[1]
    assert out.stat().st_size > 5_000
    runs = demo.compared(3, seed=1)
    assert (
        runs["SGD"].theta.tobytes() != demo.compared(3, seed=2)["SGD"].theta.tobytes()
    )


def test_every_setting_of_the_demo_is_one() -> None:
    assert len(demo.SETTINGS) == 5
    oracles = demo.made_up(0)
    for options in demo.SETTINGS.values():
        result = simulate(oracles, np.zeros(demo.FEATURES), rounds=2, **options)
        assert result.ledger.uploads > 0


def test_the_templates_python_is_no_module_of_the_package() -> None:
    folder = Path(demo.__file__).parent / "template"
    files = [
        p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in str(p)
    ]
    assert len(files) == len(NAMES)
    assert all(path.suffix == ".txt" for path in files)
