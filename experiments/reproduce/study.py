"""A study: methods at places with seeds, and how it becomes runs."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..run import Run

OF_DATASET = {"partitions", "target_factor"}
_BATCH = ("batch_size", "batch_fraction")
_NEEDED = ("method", "workers", "iterations", "learning_rate")
PARAMETERS = ({field.name for field in fields(Run)} - {"dataset", "partition", "seed"}
              | {"iterations_times"})  # fmt: skip
"""What a config may set: the fields of a run, and a factor."""
_NUMBER = (int, float)
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("method", "codec", "memory", "schedule"), str),
    **dict.fromkeys(("learning_rate", "c", "batch_fraction"), _NUMBER),
    **dict.fromkeys(("proximal", "batch_growth", "stop_at"), _NUMBER),
    "top_k": list,
}


class ConfigError(ValueError):
    """A study's file says something that cannot be run."""


@dataclass(frozen=True)
class Entry:
    """One method of a study.

    Attributes
    ----------
    label, plots : str, and tuple of str
        What tables and legends call it, unique within the study; the plots with it.
    colour : str, optional
        Its colour, instead of the method's.
    base : str, optional
        Label of the run that ``summary.md`` compares it with; None is the first.
    learning_rates : tuple of float
        The grid to choose from; empty: the parameter ``learning_rate`` is used.
    parameters : mapping
        Parameters of its runs that differ from the study's.
    """

    label: str
    plots: tuple[str, ...]
    colour: str | None
    base: str | None
    learning_rates: tuple[float, ...]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where the methods of a study are compared: a data set and a partition."""

    dataset: str
    partition: str

    def has(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row is of this place."""
        return (row["dataset"], row["partition"]) == (self.dataset, self.partition)


@dataclass(frozen=True)
class Study:
    """What ``experiments/configs/NAME.toml`` says.

    Attributes
    ----------
    name, title, caption : str
        Of the figure or table.
    module : str
        The module of this package that produces it.
    seeds : int
        Seeds 0 ... seeds − 1 are run.
    datasets : mapping of str to mapping
        Data sets, each with the parameters that belong to it.
    partitions : tuple of str
        Every data set is spread in each of these ways, unless it has its own.
    parameters : mapping
        Parameters of all jobs.
    runs : tuple of Entry
        The methods; the first dense ``sgd`` sets the target loss.
    target_factor : float
        The target is this factor times that run's final loss; a data set may have
        its own.
    target : float, optional
        The target loss itself, instead.
    target_run : str, optional
        Label of the run that sets the target, instead of the first dense ``sgd``.
    needs : tuple of str
        Packages that are not always there.
    panels : tuple of str
        Plots, as ``x:y``.
    options : mapping
        What the module alone understands.
    quick : bool
        Whether this is the small version.
    """

    name: str
    title: str
    caption: str
    module: str
    seeds: int
    datasets: Mapping[str, Mapping[str, Any]]
    partitions: tuple[str, ...]
    parameters: Mapping[str, Any]
    runs: tuple[Entry, ...]
    target_factor: float
    target: float | None
    target_run: str | None
    needs: tuple[str, ...]
    panels: tuple[str, ...]
    options: Mapping[str, Any]
    quick: bool

    @property
    def places(self) -> list[Place]:
        """All pairs of data set and partition."""
        return [
            Place(name, partition)
            for name, values in self.datasets.items()
            for partition in values.get("partitions", self.partitions)
        ]

    def factor(self, place: Place) -> float:
        """Return the target factor of a place."""
        own = self.datasets[place.dataset].get("target_factor", self.target_factor)
        return float(own)

    def run(
        self, place: Place, run: Entry, seed: int, learning_rate: float | None = None
    ) -> Run:
        """Return a run; its own parameters precede the data set's and the study's.

        Raises
        ------
        ConfigError
            If a parameter is missing, unknown or of the wrong type.
        """
        values: dict[str, Any] = {}
        for layer in (self.parameters, self.datasets[place.dataset], run.parameters):
            for one, other in (_BATCH, _BATCH[::-1]):
                if one in layer:
                    values.pop(other, None)
            values |= layer
        for name in OF_DATASET:
            values.pop(name, None)
        if learning_rate is not None:
            values["learning_rate"] = learning_rate
        where = f"{self.name}.toml, run {run.label!r}"
        return _run(values, place, seed, where)


def _run(values: Mapping[str, Any], place: Place, seed: int, where: str) -> Run:
    """Build a run from a config's values.

    Raises
    ------
    ConfigError
        If a value is missing, of the wrong type, or does not go with another.
    """
    values = dict(values)
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, _TYPES.get(name, int)):
            raise ConfigError(f"{where}: {name} cannot be {value!r}")
    if missing := [name for name in _NEEDED if name not in values]:
        raise ConfigError(f"{where}: {', '.join(missing)} missing")
    if not any(name in values for name in _BATCH):
        raise ConfigError(f"{where}: give batch_size or batch_fraction")
    values["iterations"] *= values.pop("iterations_times", 1)
    if "top_k" in values:
        values["top_k"] = tuple(values["top_k"])
    try:
        return Run(dataset=place.dataset, partition=place.partition, seed=seed,
                   **values)  # fmt: skip
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
