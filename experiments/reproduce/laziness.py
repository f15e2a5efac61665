"""Why WK2 is as lazy as it is on the CNN: its two sides along plain SGD.

SGD is run, and at a few rounds k is asked, for each delay τ and batch size, how large
η² ‖∇ℓ(θ^k;ξ) − ∇ℓ(θ^{k−τ};ξ)‖² is in units of the mean square of the last ten steps:
WK2 with c = n/η² skips while that is at most n.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lasg_flwr.random import keyed_generator
from lasg_flwr.vectors import F32, squared_distance

from .. import tables
from ..run import Run
from ..tables import Row
from ..training import task_of
from .store import Store
from .study import Study

D_MAX = 10
_REPEATS = 3


def planned(study: Study) -> int:
    """Return 1."""
    del study
    return 1


def produce(study: Study, store: Store, out: Path) -> list[Path]:
    """Write ``laziness.csv``."""
    spec = {"kind": "laziness", "options": study.options}
    compute = lambda: {"rows": measure(study.options, store.data_dir)}  # noqa: E731
    rows = store.get(spec, "WK2's two sides along SGD", compute)["rows"]
    tables.write(out / "laziness.csv", rows)
    return [out / "laziness.csv"]


def measure(options: Any, data_dir: Path | None = None) -> list[Row]:
    """Run SGD, and return a row for each of the options' rounds, batches and delays."""
    names = ("dataset", "workers", "batch_size", "learning_rate")
    run = Run(method="sgd", **{name: options[name] for name in names})
    task = task_of(run, data_dir)
    eta, rounds = run.learning_rate, options["rounds"]
    path = sgd_path(task.oracles, task.start(), eta, max(rounds))
    losses = {k: task.loss(path[k]) for k in rounds}
    return [
        {"loss": losses[k]} | row
        for k in rounds
        for size in options["batches"]
        for row in sides(path, k, task.oracles[0], size, options["delays"], eta)
    ]


def sgd_path(oracles: Sequence[Any], start: F32, eta: float, rounds: int) -> list[F32]:
    """Return the iterates θ^0 ... θ^K of plain SGD."""
    path = [start]
    for k in range(rounds):
        total = np.zeros(start.size)
        for m, oracle in enumerate(oracles):
            total += oracle.gradient(path[-1], oracle.draw(keyed_generator(0, m, k)))
        path.append((path[-1] - eta * total / len(oracles)).astype(np.float32))
    return path


def sides(
    path: list[F32], k: int, oracle: Any, batch_size: int, delays: list[int], eta: float
) -> list[Row]:
    """Return a row for each delay τ <= k, the mean over a few batches."""
    from lasg_flwr.oracles.torch.oracle import Batch

    step = np.mean([squared_distance(path[k - d], path[k - d - 1])
                    for d in range(min(D_MAX, k))])  # fmt: skip
    rng = np.random.default_rng(k)
    batches = [
        Batch(rng.choice(oracle.num_examples, batch_size, replace=False), 0)
        for _ in range(_REPEATS)
    ]
    now = [oracle.gradient(path[k], batch) for batch in batches]
    rows = []
    for tau in (d for d in delays if d <= k):
        old = [oracle.gradient(path[k - tau], batch) for batch in batches]
        squares = [squared_distance(a, b) for a, b in zip(now, old, strict=True)]
        change, moved = np.mean(squares), squared_distance(path[k], path[k - tau])
        rows.append(
            {
                "round": k,
                "batch": batch_size,
                "delay": tau,
                "lhs_over_threshold": float(eta**2 * change / step),
                "eta_times_lipschitz": float(eta * np.sqrt(change / moved)),
                "moved_over_step": float(np.sqrt(moved / step)),
            }
        )
    return rows
