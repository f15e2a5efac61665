"""The repository's Flower app on the digits, as the tests of real processes run it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.methods import build_rule
from experiments.run import Run
from experiments.tasks import Batch, Task, build_task
from lasg_flwr import simulate
from lasg_flwr.protocol import files
from lasg_flwr.vectors import F32

APP = Path(__file__).parents[2]
PARAMETERS = Run(learning_rate=0.5, max_delay=15)


@dataclass(frozen=True)
class Files:
    """Where a run of the app leaves its result and its checkpoints."""

    home: Path

    @property
    def result(self) -> Path:
        return self.home / "result.json"

    @property
    def saved(self) -> Path:
        """The checkpoint of WK2."""
        return self.home / "checkpoints" / "wk2" / "server.safetensors"

    def config(
        self, rounds: int, *methods: str, workers: int = 3, more: str = ""
    ) -> str:
        """Return what stands behind ``-c``."""
        return (
            f'method="{",".join(methods)}" num-server-rounds={rounds} '
            f"min-nodes={workers} learning-rate={PARAMETERS.learning_rate} "
            f'max-delay={PARAMETERS.max_delay} result-file="{self.result}" {more}'
        )

    def kept_config(self, rounds: int, more: str = "") -> str:
        """Return the same for a run of WK2 that writes checkpoints."""
        kept = f'checkpoint-dir="{self.home / "checkpoints"}" {more}'
        return self.config(rounds, "wk2", more=kept)

    def rows(self) -> dict[str, Any]:
        """Return the result: per method the last θ, the ledger, seconds of a round."""
        found: dict[str, Any] = json.loads(self.result.read_text())
        return found

    def rounds_done(self) -> int:
        """Return the rounds in the checkpoint."""
        if not self.saved.exists():
            return 0
        _, meta = files.read(self.saved)
        return int(meta["state"]["fields"]["round"])


def task(workers: int = 3) -> Task:
    return build_task("digits", workers, "iid", Batch(size=32))


def engine(
    method: str,
    rounds: int,
    codec: str = "dense",
    workers: int = 3,
    downlink: str = "dense",
) -> Any:
    """Return what the undisturbed engine makes of it."""
    problem = task(workers)
    return simulate(
        problem.oracles,
        np.zeros(problem.size),
        rounds=rounds,
        rule=build_rule(method, PARAMETERS, problem.oracles),
        codec=codec,
        downlink=downlink,
        step=PARAMETERS.learning_rate,
    )


def theta_of(row: dict[str, Any]) -> F32:
    return np.array(row["theta"], np.float32)
