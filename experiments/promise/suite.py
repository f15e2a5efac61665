"""The cells of the promise suite, and their runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ..run import Run

METHODS = ("wk2", "pse", "vr")
"""The lazy rules that are held against SGD or FedAvg."""
RECORDED = (10, 20, 30, 60, 100, 300)
"""The rounds at which they are."""
SCHEDULES = ("constant", "cosine", "decay:0.9")
LINEAR = ("iid", "by-label", "dirichlet:0.3")


@dataclass(frozen=True)
class Part:
    """What the suite runs of a data set.

    Attributes
    ----------
    settings : dict
        Parameters of all of its runs.
    rounds, seeds : int
        K, and seeds 0 ... seeds − 1.
    partitions, schedules : tuple of str
        Every pair of them is a cell for each of the `local_steps`.
    local_steps : tuple of int
        H; 1 is SGD, more is FedAvg.
    """

    settings: dict[str, Any]
    rounds: int = 300
    seeds: int = 3
    partitions: tuple[str, ...] = LINEAR
    schedules: tuple[str, ...] = SCHEDULES
    local_steps: tuple[int, ...] = (1, 10)


def _network(partitions: tuple[str, ...], **settings: Any) -> Part:
    settings["max_delay"] = 50
    return Part(settings, 60, 2, partitions, ("constant", "cosine"), (10,))


FULL = {
    "digits": Part({"batch_size": 32}),
    "mnist35": Part({"batch_fraction": 0.01}),
    "mnist": _network(
        ("iid", "dirichlet:0.3"), workers=10, batch_size=32, learning_rate=0.1
    ),
    "shakespeare": _network(
        ("iid", "natural"), workers=5, batch_size=8, learning_rate=1.0
    ),
}
QUICK = {
    "digits": Part(
        {"batch_size": 32}, 30, 1, ("iid", "by-label"), ("constant", "decay:0.9")
    ),
}


@dataclass(frozen=True)
class Cell:
    """Where methods are held against SGD or FedAvg.

    Attributes
    ----------
    dataset, partition, schedule : str
        Of its runs.
    local_steps : int
        H.
    """

    dataset: str
    partition: str
    local_steps: int
    schedule: str

    @property
    def plain(self) -> str:
        """The method that makes no use of laziness."""
        return "sgd" if self.local_steps == 1 else "local-sgd"

    def run(self, part: Part, method: str, seed: int) -> Run:
        """Return the run of a method, evaluated every 10 rounds."""
        return Run(
            dataset=self.dataset,
            partition=self.partition,
            method=method,
            seed=seed,
            iterations=part.rounds * self.local_steps,
            evaluate_every=10 * self.local_steps,
            local_steps=self.local_steps,
            schedule=self.schedule,
            **part.settings,
        )


def cells(dataset: str, part: Part) -> list[Cell]:
    """Return the cells of a data set.

    Examples
    --------
    >>> len(cells("digits", FULL["digits"])), len(cells("mnist", FULL["mnist"]))
    (18, 4)
    """
    spread = product(part.partitions, part.local_steps, part.schedules)
    return [Cell(dataset, *each) for each in spread]


def planned(
    parts: dict[str, Part], methods: Sequence[str]
) -> Iterator[tuple[Cell, str, Run]]:
    """Yield every run, those of the first seed first, each with its cell."""
    for seed in range(max(part.seeds for part in parts.values())):
        for dataset, part in parts.items():
            if seed >= part.seeds:
                continue
            for cell in cells(dataset, part):
                for method in (cell.plain, *methods):
                    yield cell, method, cell.run(part, method, seed)
