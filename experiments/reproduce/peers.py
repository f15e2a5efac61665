"""Peers at equal loss, ranked by uplink bytes: curves, and who is best where."""

import math
from pathlib import Path

from . import curves, grid, tables
from .config import Study
from .store import Store
from .tables import Row

planned = grid.planned


def produce(study: Study, store: Store, out: Path) -> list[Path]:
    """Write what `curves` writes, and ``ranking.csv``."""
    written = curves.produce(study, store, out)
    runs = tables.read(out / "runs.csv")
    rows: list[Row] = []
    for place in study.places:
        here = [
            r
            for r in runs
            if (r["dataset"], r["partition"]) == (place.dataset, place.partition)
        ]
        rows += ranking(here)
    tables.write(out / "ranking.csv", rows)
    return [*written, out / "ranking.csv"]


def ranking(runs: list[dict[str, str]]) -> list[Row]:
    """Rank the runs of a place by mean uplink bytes to the target.

    A run must reach the target with every seed to have a mean; the others follow by
    their final loss. ``x_fewer_bytes`` compares with the first run, seed by seed.
    """
    groups = {row["run"]: [r for r in runs if r["run"] == row["run"]] for row in runs}
    base = next(iter(groups.values()))
    rows = [_summary(mine, base) for mine in groups.values()]
    rows.sort(key=lambda r: (r["uplink_bytes"] or math.inf, r["final_loss"]))
    return [{**row, "rank": place} for place, row in enumerate(rows, 1)]


def _summary(mine: list[dict[str, str]], base: list[dict[str, str]]) -> Row:
    reached = [float(r["uplink_bytes_to_target"]) for r in mine
               if r["uplink_bytes_to_target"]]  # fmt: skip
    whole = len(reached) == len(mine)
    ratios = [
        float(b["uplink_bytes_to_target"]) / float(r["uplink_bytes_to_target"])
        for b, r in zip(base, mine, strict=True)
        if b["uplink_bytes_to_target"] and r["uplink_bytes_to_target"]
    ]
    known = len(ratios) == len(mine)
    losses = [float(r["final_loss"]) if r["final_loss"] else math.inf for r in mine]
    accuracies = [float(r["final_accuracy"] or "nan") for r in mine]
    uploads = [float(r["uploads_to_target"] or "nan") for r in mine]
    return {
        "dataset": mine[0]["dataset"],
        "partition": mine[0]["partition"],
        "run": mine[0]["run"],
        "learning_rate": mine[0]["learning_rate"],
        "reached": f"{len(reached)} of {len(mine)}",
        "uplink_bytes": tables.mean(reached) if whole else None,
        "deviation": tables.deviation(reached) if whole else None,
        "uploads": tables.mean(uploads) if whole else None,
        "final_loss": tables.mean(losses),
        "final_accuracy": tables.mean(accuracies),
        "x_fewer_bytes": tables.mean(ratios) if known else None,
        "x_fewer_bytes_deviation": tables.deviation(ratios) if known else None,
    }
