"""``python -m experiments.deployment_check``: real processes give the engine's bits.

A SuperLink and three SuperNodes on loopback, with TLS and node authentication, train
with WK2 and PSE. The last θ must equal the engine's to the bit, and the ledger's
message bytes Flower's own ``network-traffic`` within 3 %. Takes one to three minutes.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lasg_flwr import simulate

from .deployment import Federation
from .methods import Hyperparameters, build_rule
from .tasks import Batch, build_task

APP = Path(__file__).parent.parent
METHODS = ("wk2", "pse")
NODES = 3
PARAMETERS = Hyperparameters(learning_rate=0.5, max_delay=15)
TOLERANCE = 0.03


@dataclass(frozen=True)
class Outcome:
    """What a deployment gave, beside what it should have given.

    Attributes
    ----------
    rows : dict
        Per method: last θ, ledger, seconds of each round.
    traffic : dict
        Flower's ``network-traffic`` of the run.
    """

    rows: dict[str, Any]
    traffic: dict[str, int]

    def message_bytes(self, direction: str) -> int:
        """Return the ledgers' message bytes, ``uplink`` or ``downlink``."""
        name = f"{direction}_message_bytes"
        return sum(int(row["ledger"][name]) for row in self.rows.values())

    def failures(self, rounds: int) -> list[str]:
        """Return what is not as it should be."""
        wrong = [
            f"{method}: theta differs from the engine's"
            for method, row in self.rows.items()
            if not np.array_equal(
                np.array(row["theta"], np.float32), engine(method, rounds)
            )
        ]
        for ours, theirs in (("uplink", "inbound"), ("downlink", "outbound")):
            counted, seen = self.message_bytes(ours), self.traffic[f"{theirs}-bytes"]
            if abs(counted - seen) > TOLERANCE * seen:
                wrong.append(f"{ours}: the ledger says {counted}, Flower {seen} bytes")
        return wrong


def engine(method: str, rounds: int) -> Any:
    """Return the undisturbed engine's last θ."""
    task = build_task("digits", NODES, "iid", Batch(size=32))
    rule = build_rule(method, PARAMETERS, task.oracles)
    start = np.zeros(task.size)
    step = PARAMETERS.learning_rate
    return simulate(task.oracles, start, rounds=rounds, rule=rule, step=step).theta


def deploy(rounds: int, timeout: float) -> Outcome:
    """Start everything, run the app, and stop everything."""
    with tempfile.TemporaryDirectory(prefix="lasg-deploy-") as name:
        home = Path(name)
        result = home / "result.json"
        config = (
            f'method="{",".join(METHODS)}" num-server-rounds={rounds} '
            f"min-nodes={NODES} learning-rate={PARAMETERS.learning_rate} "
            f'max-delay={PARAMETERS.max_delay} result-file="{result}"'
        )
        with Federation(home, NODES) as federation:
            output = federation.run(APP, config, timeout)
            if not result.exists():
                raise RuntimeError(f"the run left no result: {output[-4000:]}")
            traffic = federation.last_run()["network-traffic"]
        return Outcome(json.loads(result.read_text()), traffic)


def main(arguments: list[str] | None = None) -> int:
    """Run the check and print a table; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--timeout", type=float, default=400, help="seconds")
    options = parser.parse_args(arguments)
    outcome = deploy(options.rounds, options.timeout)
    for method, row in outcome.rows.items():
        ledger = row["ledger"]
        print(
            f"{method}: {ledger['uploads']} uploads, {ledger['skips']} skips; payload "
            f"{ledger['uplink_bytes']} B up, {ledger['downlink_bytes']} B down; "
            f"seconds a round {[round(s, 1) for s in row['seconds']]}"
        )
    for ours, theirs in (("uplink", "inbound"), ("downlink", "outbound")):
        seen = outcome.traffic[f"{theirs}-bytes"]
        print(f"{ours}: {outcome.message_bytes(ours)} message bytes, Flower {seen}")
    wrong = outcome.failures(options.rounds)
    print("\n".join(wrong) or "theta equals the engine's to the bit; bytes agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
