"""``python -m experiments.deployment_interrupt``: stop a real ServerApp, and resume.

One run on three SuperNodes is interrupted by SIGINT (Ctrl-C), by SIGTERM and by ``flwr
stop``, each time somewhere within a round, and started again. Each time the run's log,
as ``flwr log`` shows it, must end with how to resume; after ``flwr stop`` the SuperLink
takes no more of it, and the line at its beginning must do. The last θ must equal the
undisturbed engine's to the bit. Takes some minutes.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lasg_flwr import checkpoint

from .deployment import Federation
from .deployment_check import APP, NODES, PARAMETERS, engine
from .deployment_faults import until

WAYS: dict[str, Callable[[Federation, str], object]] = {
    "SIGINT": lambda f, _: f.kill("flwr-serverapp", by=signal.SIGINT),
    "SIGTERM": lambda f, _: f.kill("flwr-serverapp", by=signal.SIGTERM),
    "flwr stop": lambda f, run_id: f.stop(run_id),
}


@dataclass(frozen=True)
class Stop:
    """What was found after a run was stopped.

    Attributes
    ----------
    rounds : int
        Rounds in the checkpoint.
    announced, said : int
        How often the run's log says how to resume, at its beginning and at its end.
    """

    rounds: int
    announced: int
    said: int


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes
    ----------
    stops : dict of str to Stop
        By the way of stopping.
    equal : bool
        Whether the last θ is the engine's to the bit.
    """

    stops: dict[str, Stop]
    equal: bool

    def failures(self) -> list[str]:
        """Return what is not as it should be."""
        wrong = [
            f"{way}: {stop}"
            for way, stop in self.stops.items()
            if stop.announced != 1 or stop.said != (way != "flwr stop")
        ]
        return wrong if self.equal else [*wrong, "theta differs from the engine's"]


def interrupt(rounds: int) -> Outcome:
    """Run the app, stop it in every way, resume it, and compare."""
    with tempfile.TemporaryDirectory(prefix="lasg-interrupt-") as name:
        home = Path(name)
        result, folder = home / "result.json", home / "checkpoints"
        saved = folder / "wk2" / "server.safetensors"
        config = (
            f'method="wk2" num-server-rounds={rounds} min-nodes={NODES} '
            f"learning-rate={PARAMETERS.learning_rate} "
            f"max-delay={PARAMETERS.max_delay} "
            f'result-file="{result}" checkpoint-dir="{folder}"'
        )

        def done() -> int:
            return int(checkpoint.read(saved)[1]["round"]) if saved.exists() else 0

        def ended() -> bool:
            return not federation.kill("flwr-serverapp", by=0)

        stops = {}
        with Federation(home, NODES) as federation:
            for way, stop in WAYS.items():
                before = done()
                run_id = federation.submit(APP, config)
                until(lambda before=before: done() > before, 120)  # type: ignore[misc]
                stop(federation, run_id)
                until(ended, 60)
                shown = federation.run_log(run_id)
                stops[way] = Stop(
                    done(),
                    shown.count(f"Checkpoint: {saved}"),
                    shown.count(f"run it again to resume from {saved}"),
                )
            federation.submit(APP, config)
            until(result.exists, 60 + 30 * rounds)
            until(ended, 60)
        row = json.loads(result.read_text())["wk2"]
    theta = np.array(row["theta"], np.float32)
    return Outcome(stops, np.array_equal(theta, engine("wk2", rounds)))


def main(arguments: list[str] | None = None) -> int:
    """Run it and print what came of it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args(arguments)
    outcome = interrupt(options.rounds)
    for way, stop in outcome.stops.items():
        print(f"{way}: {stop}")
    wrong = outcome.failures()
    print("\n".join(wrong) or "theta equals the undisturbed engine's to the bit")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
