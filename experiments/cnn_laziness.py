"""Why WK2 is as lazy as it is on the CNN: its two sides along plain SGD.

``python -m experiments.cnn_laziness --out FOLDER`` trains the CNN on MNIST (iid,
M = 10) by SGD and asks, at a few rounds k, for each delay τ and batch size, how large
η² ‖∇ℓ(θ^k;ξ) − ∇ℓ(θ^{k−τ};ξ)‖² is in units of the mean square of the last ten steps:
WK2 with c = n/η² skips while that is at most n.
"""

import csv
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from lasg_flwr.clients.torch_oracle import TorchOracle
from lasg_flwr.random import keyed_generator
from lasg_flwr.vectors import F32, squared_distance

from .batches import Batch
from .network_task import NetworkTask
from .tasks import build_task

ROUNDS = (60, 200, 400, 600, 800)
DELAYS = (1, 2, 3, 5, 10, 20, 50)
BATCHES = (12, 32, 120, 1200)
D_MAX = 10
_REPEATS = 3


def sgd_path(oracles: list[TorchOracle], eta: float, rounds: int) -> list[F32]:
    """Return the iterates θ^0 ... θ^K of plain SGD."""
    path = [oracles[0].theta()]
    for k in range(rounds):
        total = np.zeros(path[-1].size)
        for m, oracle in enumerate(oracles):
            batch = oracle.draw(keyed_generator(0, m, k))
            total += oracle.gradient(path[-1], batch)
        path.append((path[-1] - eta * total / len(oracles)).astype(np.float32))
    return path


def sides(
    path: list[F32], k: int, oracle: TorchOracle, batch_size: int, eta: float
) -> list[dict[str, Any]]:
    """Return a row for each delay τ <= k, the mean over a few batches."""
    steps = [squared_distance(path[k - d], path[k - d - 1]) for d in range(D_MAX)]
    rows = []
    rng = np.random.default_rng(k)
    batches = [
        (rng.choice(oracle.num_examples, batch_size, replace=False), 0)
        for _ in range(_REPEATS)
    ]
    now = [oracle.gradient(path[k], _batch(*b)) for b in batches]
    for tau in (d for d in DELAYS if d <= k):
        old = [oracle.gradient(path[k - tau], _batch(*b)) for b in batches]
        change = np.mean(
            [squared_distance(a, b) for a, b in zip(now, old, strict=True)]
        )
        moved = squared_distance(path[k], path[k - tau])
        rows.append(
            {
                "round": k,
                "batch": batch_size,
                "delay": tau,
                "lhs_over_threshold": eta**2 * float(change) / float(np.mean(steps)),
                "eta_times_lipschitz": eta * float(np.sqrt(change / moved)),
                "moved_over_step": float(np.sqrt(moved / np.mean(steps))),
            }
        )
    return rows


def _batch(indices: Any, seed: int) -> Any:
    from lasg_flwr.clients.torch_oracle import Batch as TorchBatch

    return TorchBatch(indices, seed)


def main(
    out: Annotated[Path, typer.Option()] = Path("results/mnist-cnn"),
    eta: Annotated[float, typer.Option()] = 0.05,
    batch: Annotated[int, typer.Option(help="of the SGD run")] = 12,
    data_dir: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Measure, and write ``laziness.csv``."""
    task = build_task("mnist", 10, "iid", Batch(size=batch), data_dir=data_dir)
    if not isinstance(task, NetworkTask):
        raise TypeError(f"mnist is a {type(task).__name__}, expected a NetworkTask")
    path = sgd_path(list(task.oracles), eta, max(ROUNDS))
    rows = [
        {"loss": task.loss(path[k])} | row
        for k in ROUNDS
        for size in BATCHES
        for row in sides(path, k, task.oracles[0], size, eta)
    ]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "laziness.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    typer.run(main)
