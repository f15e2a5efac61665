"""A study read from a TOML file of ``experiments/configs``, and checked."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..plots.curves import AXES
from ..table import display_name
from .study import OF_DATASET, PARAMETERS, ConfigError, Entry, Study

CONFIGS = Path(__file__).parent.parent / "configs"
DEFAULT_PANELS = ("iterations:loss", "uploads:loss", "bits:loss")

_TOP = {
    *("title", "caption", "module", "seeds", "partitions", "target_factor", "panels"),
    *("parameters", "datasets", "runs", "options", "quick", "needs", "like", "target"),
    "target_run",
}
_QUICK = {"title", "target", "seeds", "partitions", "parameters", "datasets", "options"}
_ENTRY = {"label", "plots", "colour", "base", "learning_rates"}
_WITHOUT_RUNS = ("table1", "theorems", "claims", "laziness")


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
        _only(values, PARAMETERS | OF_DATASET, f"{where}, [datasets.{dataset}]")
    for place in study.places:
        for run in study.runs:
            study.run(place, run, 0, next(iter(run.learning_rates), None))


def _only(values: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := set(values) - known:
        raise ConfigError(
            f"{where}: unknown {', '.join(sorted(unknown))}; "
            f"known are {', '.join(sorted(known))}"
        )
