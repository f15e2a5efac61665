"""``python -m experiments reproduce``: which studies, how, and where to."""

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from ..output import clear_errors, make_folder
from . import config
from .ahead import Jobs, default_jobs
from .store import Store
from .study import ConfigError, Study

CHOICES = f"WHAT: {', '.join(config.names())}, or all"


def reproduce_command(
    what: Annotated[list[str], typer.Argument(help="what to make: names, or all")],
    seeds: Annotated[int | None, typer.Option(min=1, help="none: the config's")] = None,
    resume: Annotated[
        bool, typer.Option(help="use results that are there, go on where it stopped")
    ] = True,
    quick: Annotated[
        bool, typer.Option(help="small versions on data that need no download")
    ] = False,
    jobs: Jobs = None,
    data_dir: Annotated[Path | None, typer.Option()] = None,
    out: Annotated[Path, typer.Option()] = Path("results/reproduce"),
) -> None:
    """Make the papers' figures and tables: CSV and plots into OUT/NAME.

    Quick versions go into OUT/quick/NAME, results of single runs into OUT/cache.
    """
    with clear_errors():
        _reproduce(what, seeds, resume, quick, jobs, data_dir, out)


def _reproduce(
    what: list[str],
    seeds: int | None,
    resume: bool,
    quick: bool,
    jobs: int | None,
    data_dir: Path | None,
    out: Path,
) -> None:
    names = [name for name in what if name != "all"]
    chosen = [*config.names(), *names] if "all" in what else names
    studies = [
        config.load(name, quick=quick, seeds=seeds) for name in dict.fromkeys(chosen)
    ]
    studies = [study for study in studies if _can_run(study, study.name in names)]
    modules = [module_of(study) for study in studies]
    make_folder(out)
    store = Store(
        out / "cache",
        resume=resume,
        data_dir=data_dir,
        planned=sum(m.planned(s) for m, s in zip(modules, studies, strict=True)),
        say=lambda line: typer.echo(line, err=True),
        jobs=jobs or default_jobs(quick),
    )
    for study, module in zip(studies, modules, strict=True):
        if quick and study.datasets:
            on = ", ".join(study.datasets)
            typer.echo(f"{study.name}: quick version, on {on}", err=True)
        folder = out / "quick" / study.name if quick else out / study.name
        written = module.produce(study, store, folder)
        files = ", ".join(path.name for path in written)
        typer.echo(f"{study.name}: written to {folder}: {files}")


def _can_run(study: Study, asked_for: bool) -> bool:
    """Return whether all packages are there; of "all", say what is left out.

    Raises
    ------
    ConfigError
        If a package is missing for a study that was asked for by name.
    """
    missing = [name for name in study.needs if find_spec(name) is None]
    if not missing:
        return True
    what = f"{' and '.join(missing)} is not installed: pip install {missing[0]}"
    if asked_for:
        raise ConfigError(f"{study.name} cannot be made: {what}")
    typer.echo(f"{study.name}: left out, as {what}", err=True)
    return False


def module_of(study: Study) -> Any:
    """Return the module that produces a study.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    name = f"{__package__}.{study.module}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigError(
            f"{study.name}.toml: no module {study.module!r} in experiments/reproduce"
        ) from None
