"""A study: what a TOML file of ``experiments/configs`` says, checked."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..plots.curves import AXES
from ..run import Run
from ..table import display_name

CONFIGS = Path(__file__).parent.parent / "configs"
DEFAULT_PANELS = ("iterations:loss", "uploads:loss", "bits:loss")

_TOP = {
    *("title", "caption", "module", "seeds", "partitions", "target_factor", "panels"),
    *("parameters", "datasets", "runs", "options", "quick", "needs", "like", "target"),
    "target_run",
}
_QUICK = {"title", "target", "seeds", "partitions", "parameters", "datasets", "options"}
_ENTRY = {"label", "plots", "colour", "base", "learning_rates"}
_OF_DATASET = {"partitions", "target_factor"}
_BATCH = ("batch_size", "batch_fraction")
_WITHOUT_RUNS = ("table1", "theorems", "claims", "laziness")
_NEEDED = ("method", "workers", "iterations", "learning_rate")
PARAMETERS = ({field.name for field in fields(Run)} - {"dataset", "partition", "seed"}
              | {"c_eta2", "iterations_times"})  # fmt: skip
"""What a config may set: the fields of a run, c in units of 1/η², and a factor."""
_NUMBER = (int, float)
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("method", "codec", "memory", "schedule"), str),
    **dict.fromkeys(("learning_rate", "c", "c_eta2", "batch_fraction"), _NUMBER),
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
        for name in _OF_DATASET:
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
    scaled = values.pop("c_eta2", None)
    if scaled is not None:
        if "c" in values:
            raise ConfigError(f"{where}: give c or c_eta2, not both")
        values["c"] = scaled / values["learning_rate"] ** 2
    if "top_k" in values:
        values["top_k"] = tuple(values["top_k"])
    try:
        return Run(dataset=place.dataset, partition=place.partition, seed=seed,
                   **values)  # fmt: skip
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def names(folder: Path = CONFIGS) -> list[str]:
    """Return the names of all studies, figures in order of their numbers."""
    found = [path.stem for path in folder.glob("*.toml")]

    def order(name: str) -> tuple[int, int, str]:
        number = name.removeprefix("fig")
        if name.startswith("fig") and number.isdigit():
            return 0, int(number), name
        return (2 if name == "claims" else 1), 0, name  # the claims read the others

    return sorted(found, key=order)


def load(
    name: str, *, quick: bool = False, seeds: int | None = None, folder: Path = CONFIGS
) -> Study:
    """Read and check the study of the file ``name.toml`` in `folder`.

    `quick` applies its ``[quick]`` table, `seeds` replaces its number of seeds.

    Raises
    ------
    ConfigError
        For an unknown name, or a file that says something else than it may.
    """
    where = f"{name}.toml"
    raw = _read(name, folder)
    if quick:
        raw = _quick(raw, where)
    if seeds is not None:
        raw["seeds"] = seeds
    return _study(name, raw, where, quick)


def _read(name: str, folder: Path, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what a file says, over what the file says that it is like."""
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join([*names(folder), "all"])
        raise ConfigError(f"unknown figure or table {name!r}: choose from {known}")
    try:
        raw = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not TOML: {error}") from None
    _only(raw, _TOP, path.name)
    if "like" not in raw:
        return raw
    if raw["like"] in (*above, name):
        raise ConfigError(f"{path.name} is like itself: {raw['like']!r}")
    return {**_read(raw["like"], folder, (*above, name)), **raw}


def _quick(raw: dict[str, Any], where: str) -> dict[str, Any]:
    changes = raw.get("quick", {})
    _only(changes, _QUICK, f"{where}, [quick]")
    merged = {**raw, **{k: v for k, v in changes.items() if k in _QUICK}}
    for table in ("parameters", "options"):
        merged[table] = {**raw.get(table, {}), **changes.get(table, {})}
    return merged


def _study(name: str, raw: Mapping[str, Any], where: str, quick: bool) -> Study:
    if not isinstance(raw.get("title"), str):
        raise ConfigError(f"{where}: title is missing")
    seeds = raw.get("seeds", 1)
    if not isinstance(seeds, int) or seeds < 1:
        raise ConfigError(f"{where}: seeds must be an integer >= 1, got {seeds!r}")
    target = raw.get("target")
    if not isinstance(target, int | float | None):
        raise ConfigError(f"{where}: target must be a number, got {target!r}")
    study = Study(
        name,
        raw["title"],
        " ".join(raw.get("caption", "").split()),
        raw.get("module", "curves"),
        seeds,
        raw.get("datasets", {}),
        tuple(raw.get("partitions", ["iid"])),
        raw.get("parameters", {}),
        tuple(_entry(run, where) for run in raw.get("runs", [])),
        float(raw.get("target_factor", 1.02)),
        target,
        raw.get("target_run"),
        tuple(raw.get("needs", [])),
        tuple(raw.get("panels", DEFAULT_PANELS)),
        raw.get("options", {}),
        quick,
    )
    _check(study, where)
    return study


def _entry(raw: Mapping[str, Any], where: str) -> Entry:
    if "method" not in raw:
        raise ConfigError(f"{where}: a run has no method: {dict(raw)!r}")
    label = raw.get("label", display_name(raw))
    _only(raw, _ENTRY | PARAMETERS, f"{where}, run {label!r}")
    for name in ("plots", "learning_rates"):
        if not isinstance(raw.get(name, []), list):
            raise ConfigError(f"{where}, run {label!r}: {name} must be a list")
    return Entry(
        label,
        tuple(raw.get("plots", ["all"])),
        raw.get("colour"),
        raw.get("base"),
        tuple(raw.get("learning_rates", [])),
        {k: v for k, v in raw.items() if k in PARAMETERS},
    )


def _check(study: Study, where: str) -> None:
    """Refuse, before anything runs, what would fail after hours."""
    labels = [run.label for run in study.runs]
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise ConfigError(f"{where}: give these runs labels of their own: {twice}")
    named = {run.base for run in study.runs} | {study.target_run}
    if lost := named - {*labels, None}:
        raise ConfigError(f"{where}: base or target_run {lost} is no run's label")
    for panel in study.panels:
        if not set(panel.split(":")) <= set(AXES) or panel.count(":") != 1:
            known = ", ".join(AXES)
            raise ConfigError(f"{where}: panel {panel!r}: give x:y, each of {known}")
    if study.module not in _WITHOUT_RUNS and not (study.runs and study.datasets):
        raise ConfigError(f"{where}: runs or datasets are missing")
    _only(study.parameters, PARAMETERS, f"{where}, [parameters]")
    for dataset, values in study.datasets.items():
        _only(values, PARAMETERS | _OF_DATASET, f"{where}, [datasets.{dataset}]")
    for place in study.places:
        for run in study.runs:
            study.run(place, run, 0, next(iter(run.learning_rates), None))


def _only(values: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := set(values) - known:
        raise ConfigError(
            f"{where}: unknown {', '.join(sorted(unknown))}; "
            f"known are {', '.join(sorted(known))}"
        )
