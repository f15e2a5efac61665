"""``lasg-flwr demo``: a few settings side by side, on data made up on the spot."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..ledger import human_bytes
from ..oracles import Oracle
from ..simulation import SimulationResult, simulate
from ..vectors import F32

WORKERS, FEATURES, EXAMPLES, BATCH = 10, 400, 200, 20
RATE, DECAY = 3.0, 1e-4

SETTINGS: dict[str, dict[str, Any]] = {
    "SGD": {"rule": "sgd"},
    "lazy (wk2)": {"rule": "wk2"},
    "lazy (vr)": {"rule": "vr"},
    "lazy (vr), 4 bits": {"rule": "vr", "codec": "qsgd:bits=4"},
    "coded (ecsq), error feedback": {
        "rule": "sgd",
        "codec": "ecsq:error=0.3",
        "memory": "error-feedback",
    },
}
"""What is compared: arguments of `lasg_flwr.LasgConfig`, by name."""


class Logistic(Oracle):
    """Logistic regression with labels −1 and 1, and weight decay.

    Parameters
    ----------
    x, y : ndarray, shapes (n, p) and (n,)
        A worker's examples.
    """

    def __init__(self, x: F32, y: F32) -> None:
        self.x, self.y = x, y

    @property
    def num_examples(self) -> int:
        """Number of examples."""
        return len(self.y)

    @property
    def size(self) -> int:
        """Length p of θ."""
        return int(self.x.shape[1])

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw a minibatch without replacement."""
        return rng.choice(len(self.y), BATCH, replace=False)

    def gradient(self, theta: F32, batch: Any) -> F32:
        """Return the gradient of the minibatch's mean loss."""
        x, y = self.x[batch], self.y[batch]
        slope = -y / (1 + np.exp(y * (x @ theta)))
        gradient: F32 = (x.T @ slope / len(y) + DECAY * theta).astype(np.float32)
        return gradient

    def evaluate(self, theta: F32) -> tuple[float, int, Mapping[str, float]]:
        """Return loss and accuracy on all of the worker's examples."""
        margins = self.y * (self.x @ theta)
        decay = DECAY / 2 * float(theta @ theta)
        loss = float(np.logaddexp(0, -margins).mean()) + decay
        return loss, len(self.y), {"accuracy": float((margins > 0).mean())}


def made_up(seed: int) -> list[Oracle]:
    """Return workers whose data differ: each has a shift of its own."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=FEATURES) / np.sqrt(FEATURES)
    oracles: list[Oracle] = []
    for _ in range(WORKERS):
        x = rng.normal(size=(EXAMPLES, FEATURES)) + 0.3 * rng.normal(size=FEATURES)
        noise = 0.3 * rng.normal(size=EXAMPLES)
        y = np.where(x @ truth + noise > 0, 1.0, -1.0)
        oracles.append(Logistic((x / 8).astype(np.float32), y.astype(np.float32)))
    return oracles


def compared(rounds: int, seed: int) -> dict[str, SimulationResult]:
    """Run every setting on the same data, minibatches included."""
    oracles = made_up(seed)
    return {
        name: simulate(
            oracles,
            np.zeros(FEATURES),
            rounds=rounds,
            step=RATE,
            seed=seed,
            evaluate_every=max(rounds // 50, 1),
            **options,
        )
        for name, options in SETTINGS.items()
    }


def table(runs: Mapping[str, SimulationResult]) -> str:
    """Return losses, uploads and bytes of the runs as text."""
    width = max(map(len, runs))
    head = f"{'':{width}}  {'loss':>7} {'accuracy':>9} {'uploads':>8} {'bytes up':>9}"
    lines = [head]
    for name, result in runs.items():
        last, up = result.history.rows[-1], human_bytes(result.ledger.uplink_bytes)
        loss, accuracy = last.loss or 0.0, 100 * (last.accuracy or 0.0)
        figures = f"{loss:7.4f} {accuracy:7.1f} % {last.uploads:8,} {up:>9}"
        lines.append(f"{name:{width}}  {figures}")
    return "\n".join(lines)


def draw(runs: Mapping[str, SimulationResult], path: Path) -> None:
    """Draw loss against bytes up and against rounds.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        hint = "a plot needs matplotlib: pip install 'lasg-flwr[plot]'"
        raise ImportError(hint) from error
    figure = figures.Figure(figsize=(9, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column, label in (
        (panels[0], "uplink_bytes", "bytes up"),
        (panels[1], "round", "round"),
    ):
        for name, result in runs.items():
            seen = result.history.evaluated()
            axes.plot(seen.column(column), seen.column("loss"), label=name)
        axes.set_xlabel(label)
    panels[0].set_xscale("log")
    panels[0].set_ylabel("training loss")
    panels[1].legend()
    figure.savefig(path)
