"""Loss against iterations, uploads and bits: the mean of the seeds and their range."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from .. import tables
from ..plots.curves import Curve, curves_figure
from ..plots.style import save
from ..tables import Row
from ..training import COUNTS, to_target
from . import captions, grid, summary
from .store import Result, Store
from .study import Entry, Place, Study

planned = grid.planned

Found = tuple[Entry, float, list[Result]]
"""A run, its learning rate, and its result for each seed."""

_MEANS = (*(name for name in COUNTS if name != "downlink_bytes"), "upload_rate")


def produce(study: Study, store: Store, out: Path) -> list[Path]:
    """Run a study and write its CSV files and plots.

    ``runs.csv`` has one row for each run and seed, ``summary.md`` their means,
    ``curves.csv`` one row for each run and evaluation, ``learning_rates.csv`` what grid
    searches tried, with the option ``ranking`` also ``ranking.csv``; a plot's name is
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
    store.ahead(grid.known(study))
    for place in study.places:
        rates, rows = grid.choose_all(study, store, place)
        tried += rows
        found = _results(study, store, place, rates)
        targets = _targets(study, place, found)
        for run, rate, results in found:
            runs += _totals(place, run, rate, results, targets)
            curves += _curve(study, place, run, results)
        here = [row for row in curves if place.has(row)]
        written += plot(study, place, here, _centre(targets), out)
    tables.write(out / "runs.csv", runs)
    bases = {run.label: run.base for run in study.runs if run.base is not None}
    (out / "summary.md").write_text(summary.markdown(runs, bases))
    tables.write(out / "curves.csv", curves)
    if tried:
        tables.write(out / "learning_rates.csv", tried)
        written.append(out / "learning_rates.csv")
    if study.options.get("ranking"):
        read = tables.read(out / "runs.csv")
        ranked = [summary.ranking(list(filter(p.has, read))) for p in study.places]
        tables.write(out / "ranking.csv", [row for rows in ranked for row in rows])
        written.append(out / "ranking.csv")
    return written


def _results(
    study: Study, store: Store, place: Place, rates: dict[str, float]
) -> list[Found]:
    """Return the results of all runs at a place; seeds outermost share their data."""
    runs = [
        [study.run(place, run, seed, rates[run.label]) for run in study.runs]
        for seed in range(study.seeds)
    ]
    store.ahead(chain(*runs))
    by_seed = [[store.run(run) for run in some] for some in runs]
    return [
        (run, rates[run.label], list(results))
        for run, results in zip(study.runs, zip(*by_seed, strict=True), strict=True)
    ]


def _targets(study: Study, place: Place, found: list[Found]) -> list[float | None]:
    """Return the target of each seed, by itself or from dense SGD's final loss."""
    if study.target is not None:
        return [study.target] * study.seeds
    for entry, _, results in found:
        totals = results[0]["totals"]
        dense_sgd = (totals["method"], totals["codec"]) == ("sgd", "dense")
        if entry.label == study.target_run if study.target_run else dense_sgd:
            losses = [r["totals"]["final_loss"] for r in results]
            factor = study.factor(place)
            return [None if x is None else factor * x for x in losses]
    return [None] * study.seeds


def _centre(targets: list[float | None]) -> float | None:
    known = [t for t in targets if t is not None]
    return tables.mean(known) if known else None


def _totals(
    place: Place,
    run: Entry,
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


def _curve(study: Study, place: Place, run: Entry, results: list[Result]) -> list[Row]:
    """Return a row for each evaluation that all seeds have."""
    workers = study.run(place, run, 0).workers
    histories = [_with_rate(r["history"], workers) for r in results]
    totals = results[0]["totals"]
    names = {"dataset": place.dataset, "partition": place.partition, "run": run.label}
    names |= {"method": totals["method"], "codec": totals["codec"]}
    return [
        {**names, "iteration": row["iteration"], **band}
        for row, band in zip(histories[0], tables.band(histories, _MEANS), strict=False)
    ]


def _with_rate(history: list[Row], workers: int) -> list[dict[str, Any]]:
    """Add the share of workers that uploaded, per iteration since the last row."""
    before, rows = history[0], []
    for row in history:
        steps = (row["iteration"] - before["iteration"]) * workers
        uploads = row["uploads"] - before["uploads"]
        rows.append({**row, "upload_rate": uploads / steps if steps else 0.0})
        before = row
    return rows


def plot(
    study: Study, place: Place, rows: Sequence[Row], target: float | None, out: Path
) -> list[Path]:
    """Write the plots of a place, one for each name in the runs' ``plots``."""
    written = []
    for name in dict.fromkeys(p for run in study.runs for p in run.plots):
        runs = [run for run in study.runs if name in run.plots]
        title = f"{study.title} — {place.dataset}, {place.partition}"
        workers = {study.run(place, run, 0).workers for run in runs}
        if len(workers) == 1:
            title += f", M = {workers.pop()}"
        shared = captions.parameters(study, place, runs)
        caption = captions.of(study, shared, captions.seeds(study))
        drawn = [_drawn(run, rows) for run in runs]
        figure = curves_figure(title, caption, drawn, study.panels, target)
        suffix = "" if name == "all" else f"-{name}"
        written.append(
            save(figure, out / f"{place.dataset}-{place.partition}{suffix}.png")
        )
    return written


def _drawn(run: Entry, rows: Sequence[Row]) -> Curve:
    mine = [row for row in rows if row["run"] == run.label]
    return Curve(run.label, mine[0]["method"], mine[0]["codec"], mine, run.colour)
