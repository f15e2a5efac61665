"""The projects of this folder, plain and lazy, as folders and as loaded apps."""

import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

FOLDER = Path(__file__).parent
PROJECTS = ("quickstart-pytorch", "older-numpy-client")
FRAMEWORKS = {
    "sklearn-digits": "sklearn",
    "lightning-digits": "lightning",
    "keras-digits": "keras",
    "flax-digits": "flax",
    "peft-bert": "peft",
}
"""Smaller projects, by the module that each of them needs."""
DIFF = "lazy.diff"
VARIANTS = {"plain": (), "lazy": (DIFF,), "two-runs": (DIFF, "two-runs.diff")}
"""What is applied to a project, one after the other."""


@dataclass(frozen=True)
class Apps:
    """A project in this process: its two apps, its task and its configuration."""

    client: ClientApp
    server: ServerApp
    task: ModuleType
    config: dict[str, Any]


def copy_project(project: str, variant: str, folder: Path) -> Path:
    """Copy a project to a new `folder`, and make it lazy if `variant` says so."""
    source = FOLDER / project
    shutil.copytree(
        source, folder, ignore=shutil.ignore_patterns("__pycache__", "*.diff")
    )
    for diff in VARIANTS[variant]:
        command = ["git", "apply", str(source / diff)]
        subprocess.run(command, cwd=folder, check=True)
    return folder


def load_apps(folder: Path) -> Apps:
    """Import the apps of a project; another copy can be loaded after it."""
    settings = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["flwr"]
    package = settings["app"]["components"]["serverapp"].partition(".")[0]
    sys.path.insert(0, str(folder))
    try:
        client, server, task = (
            import_module(f"{package}.{name}")
            for name in ("client_app", "server_app", "task")
        )
    finally:
        sys.path.remove(str(folder))
        for name in [n for n in sys.modules if n.partition(".")[0] == package]:
            del sys.modules[name]
    return Apps(client.app, server.app, task, settings["app"]["config"])
