"""What both ends of the Flower app agree on, read from its run config."""

from functools import lru_cache

import numpy as np
from flwr.app import Context
from numpy.typing import NDArray

from .data import Dataset, load, partition
from .methods import build_rule
from .run import Run
from .tasks import LinearOracle, LinearTask, worker_oracle


@lru_cache(maxsize=1)
def _dataset(name: str) -> Dataset:
    return load(name)


def run_of(context: Context) -> Run:
    """Return the run that the run config describes; no number for c: the rule's own."""
    config = context.run_config
    c = str(config["c"])
    return Run(
        dataset=str(config["dataset"]),
        partition=str(config["partition"]),
        learning_rate=float(config["learning-rate"]),
        max_delay=int(config["max-delay"]),
        d_max=int(config["d-max"]),
        c=None if c == "auto" else float(c),
        batch_size=int(config["batch-size"]),
        seed=int(config["seed"]),
    )


def methods(context: Context) -> list[str]:
    """Return the methods of the run config.

    Raises
    ------
    ValueError
        For one with local steps: this app's clients take none.
    """
    names = str(context.run_config["method"]).split(",")
    for name in names:
        if name.endswith("local-sgd"):
            raise ValueError(
                f"method {name!r} takes local steps, which the clients of this app do "
                "not: use python -m experiments compare, or wrap your own client's "
                "oracle in lasg_flwr.oracles.local.LocalSteps"
            )
    return names


def client_oracle(context: Context) -> LinearOracle:
    """Return the oracle of the partition that this client holds."""
    node = context.node_config
    dataset, parts, run = _spread(context, int(node["num-partitions"]))
    return worker_oracle(dataset, parts[int(node["partition-id"])], run.batch)


def server_task(context: Context, workers: int) -> LinearTask:
    """Return the whole task: the server evaluates on it, and PS needs its L_m."""
    dataset, parts, run = _spread(context, workers)
    oracles = [worker_oracle(dataset, part, run.batch) for part in parts]
    return LinearTask(dataset, oracles, oracles[0].l2)


def _spread(
    context: Context, workers: int
) -> tuple[Dataset, list[NDArray[np.int64]], Run]:
    run = run_of(context)
    dataset = _dataset(run.dataset)
    return dataset, partition(dataset.train_y, workers, run.partition, run.seed), run


__all__ = ["build_rule", "client_oracle", "methods", "run_of", "server_task"]
