"""What both ends of the Flower app agree on, read from its run config."""

from functools import lru_cache

from flwr.app import Context

from .data import Dataset, load, partition
from .methods import Hyperparameters, build_rule
from .tasks import Batch, LinearOracle, LinearTask, worker_oracle


@lru_cache(maxsize=1)
def _dataset(name: str) -> Dataset:
    return load(name)


def hyperparameters(context: Context) -> Hyperparameters:
    """Return the hyperparameters of the run config; ``c = "auto"`` is 1/η²."""
    config = context.run_config
    c = str(config["c"])
    return Hyperparameters(
        learning_rate=float(config["learning-rate"]),
        max_delay=int(config["max-delay"]),
        d_max=int(config["d-max"]),
        c=None if c == "auto" else float(c),
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
                "oracle in lasg_flwr.local.LocalSteps"
            )
    return names


def client_oracle(context: Context) -> LinearOracle:
    """Return the oracle of the partition that this client holds."""
    config, node = context.run_config, context.node_config
    dataset = _dataset(str(config["dataset"]))
    parts = partition(
        dataset.train_y,
        int(node["num-partitions"]),
        str(config["partition"]),
        int(config["seed"]),
    )
    part = parts[int(node["partition-id"])]
    return worker_oracle(dataset, part, Batch(size=int(config["batch-size"])))


def server_task(context: Context, workers: int) -> LinearTask:
    """Return the whole task: the server evaluates on it, and PS needs its L_m."""
    config = context.run_config
    dataset = _dataset(str(config["dataset"]))
    parts = partition(
        dataset.train_y, workers, str(config["partition"]), int(config["seed"])
    )
    batch = Batch(size=int(config["batch-size"]))
    oracles = [worker_oracle(dataset, part, batch) for part in parts]
    return LinearTask(dataset, oracles, oracles[0].l2)


__all__ = ["build_rule", "client_oracle", "hyperparameters", "methods", "server_task"]
