"""A small study on the digits, for tests of the reproduction."""

from pathlib import Path
from typing import Any

import pytest

from experiments import training
from experiments.reproduce import config
from experiments.reproduce.study import Study
from experiments.run import Run

SMALL = """
title = "A small study"
seeds = 2
[parameters]
learning_rate = 0.3
iterations = 30
[datasets.digits]
workers = 3
batch_size = 8
[[runs]]
method = "sgd"
[[runs]]
method = "wk2"
[[runs]]
method = "wk2"
codec = "qsgd:bits=4"
memory = "gradient"
"""


def small(folder: Path, text: str = SMALL, **options: Any) -> Study:
    (folder / "small.toml").write_text(text)
    return config.load("small", folder=folder, **options)


def counted(monkeypatch: pytest.MonkeyPatch, limit: int = 10**9) -> list[str]:
    """Count the runs; the one after `limit` is interrupted."""
    ran: list[str] = []
    original = training.train

    def train(run: Run, task: Any) -> Any:
        if len(ran) == limit:
            raise KeyboardInterrupt
        ran.append(str(run))
        return original(run, task)

    monkeypatch.setattr(training, "train", train)
    return ran


def texts(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".csv"}
