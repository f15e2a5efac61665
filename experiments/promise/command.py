"""``python -m experiments promise``: run the suite, or what time allows of it."""

import time
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Annotated

import typer

from .. import tables
from ..output import clear_errors, make_folder
from ..reproduce.ahead import Jobs, default_jobs
from ..reproduce.store import Store
from .suite import FULL, METHODS, QUICK, RECORDED, Cell, Part, planned
from .verdict import Row, summary, verdicts

COLUMNS = ("round", "loss", "accuracy", "uploads", "uplink_bytes")


def promise_command(
    dataset: Annotated[
        list[str] | None,
        typer.Option(help=f"repeat for several of {', '.join(FULL)}; none: all"),
    ] = None,
    methods: Annotated[str, typer.Option(help="lazy rules")] = ",".join(METHODS),
    seeds: Annotated[
        int | None, typer.Option(min=1, help="none: 3, of networks 2")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="start no run after these; 0: show what is there"),
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="the digits, 30 rounds, four pairs of cells, one seed")
    ] = False,
    resume: Annotated[
        bool, typer.Option(help="use results that are there, go on where it stopped")
    ] = True,
    jobs: Jobs = None,
    data_dir: Annotated[Path | None, typer.Option()] = None,
    out: Annotated[Path, typer.Option()] = Path("results/promise"),
) -> None:
    """Hold lazy rules against SGD and FedAvg on every kind of task, round by round.

    A promise is broken where accuracy is more than a point below theirs, or loss more
    than 2 % above, after as many rounds. Writes runs.csv, verdicts.csv and promise.md;
    results of single runs go into OUT/cache, and Ctrl-C keeps them.
    """
    with clear_errors():
        parts = _parts(QUICK if quick else FULL, dataset, seeds)
        names = [name.strip() for name in methods.split(",")]
        make_folder(out)
        jobs = jobs or default_jobs(quick)
        store = _store(out, parts, names, resume, data_dir, jobs)
        results = _run(parts, names, store, minutes)
        written = write(results, out)
    typer.echo((out / "promise.md").read_text())
    typer.echo(f"written to {out}: {', '.join(path.name for path in written)}")


def _parts(
    suite: dict[str, Part], datasets: Sequence[str] | None, seeds: int | None
) -> dict[str, Part]:
    for name in datasets or ():
        if name not in suite:
            raise ValueError(f"{name!r}: choose from {', '.join(suite)}")
    return {
        name: part if seeds is None else replace(part, seeds=seeds)
        for name, part in suite.items()
        if not datasets or name in datasets
    }


def _store(
    out: Path, parts: dict[str, Part], methods: Sequence[str], resume: bool,
    data_dir: Path | None, jobs: int,
) -> Store:  # fmt: skip
    return Store(
        out / "cache",
        resume=resume,
        data_dir=data_dir,
        planned=sum(1 for _ in planned(parts, methods)),
        say=lambda line: typer.echo(line, err=True),
        jobs=jobs,
    )


def _run(
    parts: dict[str, Part], methods: Sequence[str], store: Store, minutes: float | None
) -> dict[tuple[Cell, str], dict[int, list[Row]]]:
    end = inf if minutes is None else time.monotonic() + 60 * minutes
    store.ahead((run for *_, run in planned(parts, methods)), end)
    results: dict[tuple[Cell, str], dict[int, list[Row]]] = {}
    for cell, method, run in planned(parts, methods):
        found = results.setdefault((cell, method), {})
        if time.monotonic() < end or store.has(run):
            found[run.seed] = store.run(run)["history"]
    return results


def write(
    results: dict[tuple[Cell, str], dict[int, list[Row]]], out: Path
) -> list[Path]:
    """Write every recorded round, the verdicts and the table; return the files.

    Raises
    ------
    ValueError
        If nothing was run that can be compared.
    """
    rows = [
        {**vars(cell), "method": method, "seed": seed}
        | {name: row[name] for name in COLUMNS}
        for (cell, method), histories in results.items()
        for seed, history in histories.items()
        for row in history
        if row["round"] in RECORDED
    ]
    found = verdicts(results)
    if not found:
        raise ValueError("no two runs to compare yet: give it more --minutes")
    paths = [out / name for name in ("runs.csv", "verdicts.csv", "promise.md")]
    tables.write(paths[0], rows)
    tables.write(paths[1], found)
    paths[2].write_text(summary(found))
    return paths
