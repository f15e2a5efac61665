"""Figures 6 and 7: uploads to a loss or an accuracy for several numbers of workers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .. import tables
from ..plots import studies
from ..run import Run
from ..tables import Row
from . import captions
from .store import Result, Store
from .study import ConfigError, Entry, Place, Study


def planned(study: Study) -> int:
    """Return how many results the study asks for."""
    each = len(study.runs) * len(study.options["workers"])
    return study.seeds * each * len(study.places)


def produce(study: Study, store: Store, out: Path) -> list[Path]:
    """Write ``runs.csv``, ``summary.md`` and a plot for each place.

    ``runs.csv`` has one row for each run, M and seed. The option ``workers`` has the
    numbers M, the option ``iterations`` as many numbers of iterations: few workers need
    more of them to the same loss.

    Raises
    ------
    ConfigError
        If the study has no target.
    """
    if study.target is None:
        raise ConfigError(f"{study.name}.toml: target is missing")
    rows: list[Row] = []
    written = [out / "runs.csv", out / "summary.md"]
    for place in study.places:
        runs = [
            (entry.label, run_of(study, place, entry, *size, seed))
            for seed in range(study.seeds)
            for size in sizes(study)
            for entry in study.runs
        ]
        store.ahead(run for _, run in runs)
        here = [_row(study, run, label, store) for label, run in runs]
        rows += here
        path = out / f"{place.dataset}-{place.partition}.png"
        _plot(study, place, here, path)
        written.append(path)
    tables.write(out / "runs.csv", rows)
    (out / "summary.md").write_text(
        "\n".join(summary(study, place, rows) for place in study.places)
    )
    return written


def sizes(study: Study) -> list[tuple[int, int]]:
    """Return the pairs of M and iterations.

    Raises
    ------
    ConfigError
        If there are not as many of one as of the other.
    """
    workers, iterations = study.options["workers"], study.options["iterations"]
    if len(workers) != len(iterations):
        raise ConfigError(
            f"{study.name}.toml: workers {workers} and iterations {iterations} must be "
            "as many"
        )
    return list(zip(workers, iterations, strict=True))


def _row(study: Study, run: Run, label: str, store: Store) -> Row:
    result = store.run(run)
    return {
        "dataset": run.dataset,
        "partition": run.partition,
        "run": label,
        "workers": run.workers,
        "seed": run.seed,
        "target": study.target,
        **first_at(result, study.options["y"], study.target or 0.0),
        "final_loss": result["totals"]["final_loss"],
        "final_accuracy": result["totals"]["final_accuracy"],
    }


def run_of(
    study: Study, place: Place, run: Entry, workers: int, iterations: int, seed: int
) -> Run:
    """Return a run with so many workers."""
    changed = {"workers": workers, "iterations": iterations}
    spec = replace(run, parameters={**run.parameters, **changed})
    return study.run(place, spec, seed)


def first_at(result: Result, column: str, target: float) -> Row:
    """Return the counts where a loss or an accuracy is first reached; None if never.

    Examples
    --------
    >>> row = {"loss": 0.1, "iteration": 50, "uploads": 7, "uplink_bytes": 90}
    >>> first_at({"history": [row]}, "loss", 0.1)["uploads_to_target"]
    7
    """
    sign = 1 if column == "loss" else -1
    reached: Mapping[str, int] = next(
        (r for r in result["history"] if sign * r[column] <= sign * target), {}
    )
    return {
        "iterations_to_target": reached.get("iteration"),
        "uploads_to_target": reached.get("uploads"),
        "uplink_bytes_to_target": reached.get("uplink_bytes"),
    }


def summary(study: Study, place: Place, rows: Sequence[Row]) -> str:
    """Return uploads to the target by run and M, and how many fewer than the first."""
    counts = study.options["workers"]
    rows = list(filter(place.has, rows))
    head = "| run |" + "".join(f" M = {m} |" for m in counts)
    title = f"{study.title} — {place.dataset}, {place.partition}"
    lines = [f"{title}, and how many times fewer than SGD", "", head]
    lines.append("|---" * (len(counts) + 1) + "|")
    base = {m: _reached(rows, study.runs[0].label, m) for m in counts}
    for run in study.runs:
        cells = [_cell(_reached(rows, run.label, m), base[m]) for m in counts]
        lines.append(f"| {run.label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _reached(rows: Sequence[Row], label: str, workers: int) -> list[float | None]:
    """Return uploads to the target for each seed, None where it was not reached."""
    mine = [r for r in rows if (r["run"], r["workers"]) == (label, workers)]
    return [r["uploads_to_target"] for r in mine]


def _cell(counts: Sequence[float | None], base: Sequence[float | None]) -> str:
    found = [n for n in counts if n is not None]
    if not found:
        return "not reached"
    text = f"{tables.mean(found):,.0f}"
    if len(found) > 1:
        text += f" ± {tables.deviation(found):,.0f}"
    if len(found) < len(counts):
        return f"{text}, {len(found)} of {len(counts)} seeds"
    if None in base:
        return text
    ratios = [b / n for b, n in zip(base, found, strict=True) if b is not None]
    spread = f" ± {tables.deviation(ratios):.2f}" if len(ratios) > 1 else ""
    return f"{text} ({tables.mean(ratios):.2f}x{spread})"


def _plot(study: Study, place: Place, rows: Sequence[Row], path: Path) -> None:
    counts = study.options["workers"]
    found = {
        run.label: (
            run.parameters["method"],
            {m: _reached(rows, run.label, m) for m in counts},
        )
        for run in study.runs
    }
    title = f"{study.title} — {place.dataset}, {place.partition}"
    caption = captions.of(study, f"Mean of {study.seeds} seeds")
    studies.workers(title, caption, counts, found, path)
