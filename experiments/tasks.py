"""Tasks: data spread over workers, their oracles, and the loss."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from lasg_flwr.oracles.base import Oracle
from lasg_flwr.vectors import F32

from .batches import Batch
from .data import check_name, is_network, load, load_network_data, partition
from .linear_task import (
    L2,
    LinearOracle,
    LinearTask,
    LogisticOracle,
    SoftmaxOracle,
    worker_oracle,
)

__all__ = [
    "L2",
    "Batch",
    "LinearOracle",
    "LinearTask",
    "LogisticOracle",
    "SoftmaxOracle",
    "Task",
    "build_task",
    "worker_oracle",
]


class Task(Protocol):
    """What the comparison needs of a model and its data."""

    @property
    def oracles(self) -> Sequence[Oracle]:
        """One oracle for each worker; PS needs ``smoothness()`` of them, its L_m."""

    @property
    def size(self) -> int:
        """Length p of θ."""

    @property
    def l2(self) -> float:
        """λ of λ/2 ‖θ‖², part of the loss and of the gradients."""

    @property
    def notes(self) -> dict[str, Any]:
        """What ``summary.json`` should say of the task."""

    def start(self) -> F32:
        """Return θ^0."""

    def start_buffers(self) -> F32:
        """Return the first values of the buffers; empty where there are none."""

    def load_buffers(self, values: F32) -> None:
        """Set the buffers that `loss` and `accuracy` use."""

    def loss(self, theta: F32) -> float:
        """Return the mean training loss with regularisation."""

    def accuracy(self, theta: F32) -> float:
        """Return the share of test targets that are predicted correctly."""


def build_task(
    name: str,
    workers: int,
    scheme: str,
    batch: Batch,
    *,
    seed: int = 0,
    l2: float = L2,
    data_dir: Path | None = None,
) -> Task:
    """Load a data set and spread it over workers.

    Parameters
    ----------
    name, workers, scheme, batch : str, int, str and Batch
        The data, M, and see `experiments.data.partition`.
    seed : int (default: 0)
        Seed of the partition and of a network's initial weights.
    l2 : float (default: 1e-5)
        λ of linear models; networks have none.
    data_dir : Path, optional
        Where the files are.

    Raises
    ------
    ValueError
        For an unknown name, or a network where PyTorch is not installed.
    DataError
        If a file is missing or damaged.
    """
    check_name(name)
    if not is_network(name):
        dataset = _data(name, data_dir)
        parts = partition(dataset.train_y, workers, scheme, seed)
        oracles = [worker_oracle(dataset, part, batch, l2) for part in parts]
        return LinearTask(dataset, oracles, l2)
    try:
        from .network_task import network_task
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchvision"):
            raise
        raise ValueError(
            f"{name} needs {error.name}: pip install {error.name}"
        ) from error
    data = load_network_data(name, data_dir)
    parts = partition(data.groups, workers, scheme, seed)
    return network_task(data, parts, batch, seed)


_data = lru_cache(maxsize=1)(load)
