"""The comparison: methods side by side on one task, by loss, uploads and bytes."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from .run import SPARSE, Run
from .tasks import Task
from .training import Progress, Row, Trained, check, to_target, train

TARGET_FACTOR = 1.02
"""The default target is this factor times the final loss of dense SGD."""
NAMES = ("method", "codec", "memory", "local_steps", "downlink")
"""What a run of a comparison is known by, beside its seed."""


@dataclass(frozen=True)
class Compared:
    """What a comparison gave.

    Attributes
    ----------
    history : list of dict
        A row for each run and evaluated round: what ``history.csv`` holds.
    summary : dict
        What ``summary.json`` holds.
    stopped : bool
        Whether Ctrl-C ended it; the runs that were finished are all there.
    """

    history: list[Row]
    summary: Row
    stopped: bool = False


def plan(
    base: Run,
    methods: Sequence[str],
    codecs: Sequence[str],
    seeds: int = 1,
    downlinks: Sequence[str] = ("dense",),
) -> list[Run]:
    """Return a run for each method, codec, downlink and seed, of as many rounds.

    The base's `iterations` and `evaluate_every` count rounds. Seeds count from the
    base's on; they are outermost, and so share their data.
    """
    return [
        _of_rounds(
            replace(
                base,
                method=method,
                codec=codec,
                downlink=downlink,
                seed=base.seed + number,
            )
        )
        for number in range(seeds)
        for codec in codecs
        for downlink in downlinks
        for method in methods
    ]


def _of_rounds(run: Run) -> Run:
    each = {name: run.steps * getattr(run, name)
            for name in ("iterations", "evaluate_every")}  # fmt: skip
    return replace(run, **each)


def compare(
    runs: Sequence[Run],
    task_of: Callable[[Run], Task],
    target: float | None = None,
    progress: Progress = lambda: None,
) -> Compared:
    """Carry out the runs of a comparison, see `gather`.

    Parameters
    ----------
    runs : sequence of Run
        What to run, see `plan`.
    task_of : callable
        Gives the task of a run.
    target : float, optional
        Loss to reach.
    progress : callable
        Called after every round of every run.

    Raises
    ------
    KeyboardInterrupt
        If it comes before any run is finished.
    """
    for run in runs:
        if run.seed == runs[0].seed:
            check(run, task_of(run))
    done: list[Trained] = []
    try:
        for run in runs:
            done.append(train(run, task_of(run), progress))
    except KeyboardInterrupt:
        if not done:
            raise
    return gather(runs[: len(done)], done, task_of(runs[0]), target,
                  stopped=len(done) < len(runs))  # fmt: skip


def gather(
    runs: Sequence[Run],
    done: Sequence[Trained],
    task: Task,
    target: float | None = None,
    *,
    factor: float = TARGET_FACTOR,
    stopped: bool = False,
) -> Compared:
    """Set runs that were carried out side by side.

    The target is `target`, or else `factor` x the final loss of dense SGD, the mean of
    its seeds; `task` is that of the first run.
    """
    first, says = runs[0], "given"
    if target is None:
        target, says = _target(done, factor)
    found: list[Row] = []
    history: list[Row] = []
    for run, trained in zip(runs, done, strict=True):
        names = {n: trained.totals[n] for n in NAMES} | {"seed": run.seed}
        rows = [_both_ways(row) for row in trained.history]
        reached = to_target(rows, target)
        found.append(names | _both_ways(trained.totals) | reached)
        history += [
            names | {k: v for k, v in row.items() if k != "iteration"} for row in rows
        ]
    summary = {
        "dataset": first.dataset,
        "partition": first.partition,
        "workers": first.workers,
        "rounds": first.rounds,
        "seed": first.seed,
        "seeds": len({run.seed for run in runs}),
        "target_loss": target,
        "target_is": says,
        "parameters": parameters_of(runs) | {"l2": task.l2} | task.notes,
        "runs": found,
    }
    return Compared(history, summary, stopped)


def _both_ways(row: Row) -> Row:
    """Add the bytes of both directions together."""
    return row | {"total_bytes": row["uplink_bytes"] + row["downlink_bytes"]}


def _target(done: Sequence[Trained], factor: float) -> tuple[float | None, str]:
    losses = [
        trained.totals["final_loss"]
        for trained in done
        if all(
            trained.totals.get(name, "dense") == usual
            for name, usual in (
                *(("method", "sgd"), ("codec", "dense"), ("downlink", "dense")),
            )
        )
    ]
    if not losses or None in losses:
        return None, "none: no finished run of dense SGD"
    seeds = f", mean of {len(losses)} seeds" if len(losses) > 1 else ""
    return factor * fmean(losses), f"{factor:g} x dense SGD's final loss{seeds}"


def parameters_of(runs: Sequence[Run]) -> Row:
    """Return the parameters that the runs share; None for what none of them has."""
    run, methods = runs[0], {run.method for run in runs}
    sparse = ("top_k", "batch_growth", "initial_batch")
    return {
        "learning_rate": run.learning_rate,
        "max_delay": run.max_delay,
        "d_max": run.d_max,
        "c": run.c,
        "local_steps": run.local_steps,
        "schedule": run.schedule,
        **{name: getattr(run, name) if SPARSE in methods else None for name in sparse},
        "proximal": run.proximal if "fedprox" in methods else None,
        "batch_size": run.batch_size,
        "batch_fraction": run.batch_fraction,
        "evaluate_every": run.evaluate_rounds,
    }


def write(found: Compared, out: Path) -> None:
    """Write ``history.csv`` and ``summary.json`` into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found.history[0]))
        writer.writeheader()
        writer.writerows(found.history)
    write_summary(found.summary, out)


def write_summary(summary: Row, out: Path) -> None:
    """Write ``summary.json`` into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(summary, indent=2, allow_nan=False)
    (out / "summary.json").write_text(text + "\n")
