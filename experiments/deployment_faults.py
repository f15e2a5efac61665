"""``python -m experiments.deployment_faults``: kill -9 of real processes.

During one run a ClientApp that trains, then a whole SuperNode in mid-round, then the
ServerApp between rounds are killed. The SuperNode comes back, with its state folder or
without; the run is started again and resumes. Its last loss is compared with the
engine's undisturbed run. Takes five to ten minutes.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lasg_flwr import checkpoint, simulate

from .deployment import Federation
from .deployment_check import APP, NODES, PARAMETERS
from .methods import build_rule
from .tasks import Batch, build_task

CODEC = "topk:k=65"


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes
    ----------
    loss, undisturbed : float
        Last training loss, and the engine's.
    killed_in_round : int
        Rounds done when the ServerApp was killed.
    ledger : dict
        The run's ledger.
    """

    loss: float
    undisturbed: float
    killed_in_round: int
    ledger: dict[str, Any]


def until(what: Callable[[], object], seconds: float, step: float = 0.05) -> None:
    """Wait until `what` returns something true.

    Raises
    ------
    RuntimeError
        If it does not within `seconds`.
    """
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise RuntimeError("a step of the check took too long")
        time.sleep(step)


def disturb(rounds: int, keep_state: bool) -> Outcome:
    """Run the app with all faults; `keep_state`: the SuperNode keeps its folder."""
    with tempfile.TemporaryDirectory(prefix="lasg-faults-") as name:
        home = Path(name)
        result, folder = home / "result.json", home / "checkpoints"
        saved = folder / "wk2" / "server.safetensors"
        config = (
            f'method="wk2" codec="{CODEC}" num-server-rounds={rounds} '
            f"min-nodes={NODES} learning-rate={PARAMETERS.learning_rate} "
            f"max-delay={PARAMETERS.max_delay} round-seconds=60.0 "
            f'result-file="{result}" checkpoint-dir="{folder}"'
        )

        def done() -> int:
            return int(checkpoint.read(saved)[1]["round"]) if saved.exists() else 0

        with Federation(home, NODES) as federation:
            federation.submit(APP, config)
            until(lambda: done() >= 1, 120)
            until(lambda: federation.kill("flwr-clientapp"), 60)
            until(lambda: done() >= 2, 180)
            until((home / "state1").exists, 180)  # a slow node may miss a round
            time.sleep(4)  # into the next round
            federation.kill_node(1)
            if not keep_state:
                shutil.rmtree(home / "state1")
            federation.revive_node(1)
            killed = done()
            federation.kill("flwr-serverapp")
            federation.submit(APP, config)
            until(result.exists, 120 + 30 * rounds)
            time.sleep(1)
        row = json.loads(result.read_text())["wk2"]
    task = build_task("digits", NODES, "iid", Batch(size=32))
    calm = simulate(
        task.oracles,
        np.zeros(task.size),
        rounds=rounds,
        rule=build_rule("wk2", PARAMETERS, task.oracles),
        codec=CODEC,
        step=PARAMETERS.learning_rate,
    )
    loss = task.loss(np.array(row["theta"], np.float32))
    return Outcome(loss, task.loss(calm.theta), killed, row["ledger"])


def main(arguments: list[str] | None = None) -> int:
    """Run it and print what came of it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--lose-state", action="store_true")
    options = parser.parse_args(arguments)
    outcome = disturb(options.rounds, not options.lose_state)
    relative = outcome.loss / outcome.undisturbed - 1
    print(
        f"ServerApp killed after round {outcome.killed_in_round}; loss "
        f"{outcome.loss:.4f}, undisturbed {outcome.undisturbed:.4f} ({relative:+.1%})"
    )
    print(outcome.ledger)
    return 0 if outcome.ledger["rounds"] == options.rounds else 1


if __name__ == "__main__":
    sys.exit(main())
