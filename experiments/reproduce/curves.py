"""Loss against iterations, uploads and bits: the mean of the seeds and their range."""

from pathlib import Path
from typing import Any

from ..compare import to_target
from . import grid, summary, tables
from .config import Place, RunSpec, Study
from .plot import plot
from .store import Result, Store
from .tables import Row

planned = grid.planned

Found = tuple[RunSpec, float, list[Result]]
"""A run, its learning rate, and its result for each seed."""

_MEANS = ("uploads", "downloads", "uplink_bytes", "gradient_evaluations", "upload_rate")


def produce(study: Study, store: Store, out: Path) -> list[Path]:
    """Run a study and write its CSV files and plots.

    ``runs.csv`` has one row for each run and seed, ``summary.md`` their means,
    ``curves.csv`` one row for each run and evaluation, ``learning_rates.csv`` what grid
    searches tried; a plot's name is
    ``DATASET-PARTITION-PLOT.png``.

    Returns
    -------
    list of Path
        The files written.
    """
    runs: list[Row] = []
    curves: list[Row] = []
    tried: list[dict[str, object]] = []
    written = [out / "runs.csv", out / "curves.csv", out / "summary.md"]
    for place in study.places:
        rates, rows = grid.choose_all(study, store, place)
        tried += rows
        found = _results(study, store, place, rates)
        targets = _targets(study, place, found)
        for run, rate, results in found:
            runs += _totals(place, run, rate, results, targets)
            curves += _curve(study, place, run, results)
        here = [r for r in curves if r["dataset"] == place.dataset]
        here = [r for r in here if r["partition"] == place.partition]
        written += plot(study, place, here, _centre(targets), out)
    tables.write(out / "runs.csv", runs)
    bases = {run.label: run.base for run in study.runs if run.base is not None}
    (out / "summary.md").write_text(summary.markdown(runs, bases))
    tables.write(out / "curves.csv", curves)
    if tried:
        tables.write(out / "learning_rates.csv", tried)
        written.append(out / "learning_rates.csv")
    return written


def _results(
    study: Study, store: Store, place: Place, rates: dict[str, float]
) -> list[Found]:
    """Return the results of all runs at a place; seeds outermost share their data."""
    by_seed = [
        [store.job(study.job(place, run, s, rates[run.label])) for run in study.runs]
        for s in range(study.seeds)
    ]
    return [
        (run, rates[run.label], list(results))
        for run, results in zip(study.runs, zip(*by_seed, strict=True), strict=True)
    ]


def _targets(study: Study, place: Place, found: list[Found]) -> list[float | None]:
    """Return the target of each seed, by itself or from dense SGD's final loss."""
    if study.target is not None:
        return [study.target] * study.seeds
    for _, _, results in found:
        totals = results[0]["totals"]
        if (totals["method"], totals["codec"]) == ("sgd", "dense"):
            losses = [r["totals"]["final_loss"] for r in results]
            factor = study.factor(place)
            return [None if x is None else factor * x for x in losses]
    return [None] * study.seeds


def _centre(targets: list[float | None]) -> float | None:
    known = [t for t in targets if t is not None]
    return tables.mean(known) if known else None


def _totals(
    place: Place,
    run: RunSpec,
    rate: float,
    results: list[Result],
    targets: list[float | None],
) -> list[Row]:
    rows = []
    for seed, (result, target) in enumerate(zip(results, targets, strict=True)):
        head = {
            "dataset": place.dataset,
            "partition": place.partition,
            "run": run.label,
            "seed": seed,
            "learning_rate": rate,
            "iterations": result["history"][-1]["iteration"],
        }
        reached = to_target(result["history"], target)
        steps = result["totals"]["local_steps"]
        rounds = reached.pop("rounds_to_target")
        rows.append(
            {
                **head,
                **result["totals"],
                "target_loss": target,
                "iterations_to_target": None if rounds is None else rounds * steps,
                **reached,
            }
        )
    return rows


def _curve(
    study: Study, place: Place, run: RunSpec, results: list[Result]
) -> list[Row]:
    """Return a row for each evaluation that all seeds have."""
    workers = study.job(place, run, 0).workers
    histories = [_with_rate(r["history"], workers) for r in results]
    totals = results[0]["totals"]
    rows = []
    for at in zip(*histories, strict=False):
        row: Row = {
            "dataset": place.dataset,
            "partition": place.partition,
            "run": run.label,
            "method": totals["method"],
            "codec": totals["codec"],
            "iteration": at[0]["iteration"],
        }
        for name in ("loss", "accuracy"):
            values = [float(r[name]) for r in at]
            row[name] = tables.mean(values)
            row[f"{name}_low"], row[f"{name}_high"] = min(values), max(values)
        row |= {name: tables.mean(float(r[name]) for r in at) for name in _MEANS}
        rows.append(row)
    return rows


def _with_rate(history: list[Row], workers: int) -> list[dict[str, Any]]:
    """Add the share of workers that uploaded, per iteration since the last row."""
    before, rows = history[0], []
    for row in history:
        steps = (row["iteration"] - before["iteration"]) * workers
        uploads = row["uploads"] - before["uploads"]
        rows.append({**row, "upload_rate": uploads / steps if steps else 0.0})
        before = row
    return rows
