"""``python -m experiments.simulation_interrupt``: stop ``flwr run`` in Ray, and resume.

Ctrl-C in ``flwr run --stream`` leaves the log only, and the run must go on; SIGINT to
its process must end it, and its log say how to resume. Started again, it must go on
from the checkpoint. Takes one to three minutes.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lasg_flwr import checkpoint

from .deployment_check import APP
from .deployment_faults import until
from .flower_run import environment, flwr_run, processes_of, stop_daemons

MORE_ROUNDS = 3


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes
    ----------
    went_on : bool
        Whether the run went on after Ctrl-C in the log's terminal.
    said : int
        How often the stopped run's log says how to resume.
    stopped_in, resumed_to : int
        Rounds in the checkpoint then, and in the ledger in the end.
    """

    went_on: bool
    said: int
    stopped_in: int
    resumed_to: int

    def failures(self) -> list[str]:
        """Return what is not as it should be."""
        wrong = [] if self.went_on else ["Ctrl-C in the log stopped the run"]
        if self.said != 1:
            wrong.append(f"the log says {self.said} times how to resume")
        if self.resumed_to != self.stopped_in + MORE_ROUNDS:
            wrong.append(f"resumed from {self.stopped_in} to {self.resumed_to}")
        return wrong


def interrupt() -> Outcome:
    """Run the app, stop it, and resume it."""
    with tempfile.TemporaryDirectory(prefix="lasg-stop-") as name:
        home, folder, result = Path(name), Path(name) / "kept", Path(name) / "out.json"
        saved = folder / "wk2" / "server.safetensors"

        def config(rounds: int) -> str:
            return (
                f'method="wk2" num-server-rounds={rounds} evaluate-every=1000 '
                f'min-nodes=3 checkpoint-dir="{folder}" result-file="{result}"'
            )

        def done() -> int:
            return int(checkpoint.read(saved)[1]["round"]) if saved.exists() else 0

        went_on, shown = _stopped(home, config(100_000), done)
        stopped_in = done()
        flwr_run(APP, config(stopped_in + MORE_ROUNDS), 3)
        ledger = json.loads(result.read_text())["wk2"]["ledger"]
    said = shown.count(f"run it again to resume from {saved}")
    return Outcome(went_on, said, stopped_in, int(ledger["rounds"]))


def _stopped(home: Path, config: str, done: Callable[[], int]) -> tuple[bool, str]:
    """Start a run, press Ctrl-C, and stop it; return its log."""
    settings = environment(str(home))
    federation = "num-supernodes=3 client-resources-num-cpus=1"
    command = ["flwr", "run", str(APP), "--stream", "-c", config]
    try:
        with subprocess.Popen(
            [*command, "--federation-config", federation],
            env=settings,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        ) as stream:
            until(lambda: done() >= 1, 240)
            os.killpg(stream.pid, signal.SIGINT)  # as a terminal does
        before = done()
        time.sleep(5)
        went_on = done() > before
        for pid in _simulations(home):
            os.kill(pid, signal.SIGINT)
        until(lambda: not _simulations(home), 60)
        shown = _flwr(settings, "log", _run_id(settings), "--show")
    finally:
        stop_daemons(str(home))
    return went_on, shown


def _simulations(home: Path) -> list[int]:
    return [pid for pid, line in processes_of(str(home)) if "flwr-simulation" in line]


def _run_id(settings: dict[str, str]) -> str:
    listed = json.loads(_flwr(settings, "list", "--format", "json"))
    return str(listed["runs"][0]["run-id"])


def _flwr(settings: dict[str, str], *arguments: str) -> str:
    return subprocess.run(
        ["flwr", *arguments], env=settings, capture_output=True, text=True, check=True
    ).stdout


def main() -> int:
    """Run it and print what came of it; return the exit status."""
    outcome = interrupt()
    print(outcome)
    wrong = outcome.failures()
    print("\n".join(wrong) or "the run was stopped, said how to resume, and resumed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
