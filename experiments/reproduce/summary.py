"""The runs of a study for reading: mean ± deviation over the seeds, and a ranking."""

import math
from collections.abc import Mapping, Sequence

from .. import tables
from ..tables import Row

_HEAD = (
    "| run | uploads to target | fewer than SGD | uplink bytes to target | fewer than "
    "SGD | iterations to target | gradients, whole run | final loss | test accuracy |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def markdown(runs: Sequence[Row], bases: Mapping[str, str] | None = None) -> str:
    """Return one table for each data set and partition, from the rows of ``runs.csv``.

    A run is compared with that in `bases`, or else with the first of its place.
    """
    places = dict.fromkeys((r["dataset"], r["partition"]) for r in runs)
    parts = []
    for place in places:
        here = [r for r in runs if (r["dataset"], r["partition"]) == place]
        targets = [r["target_loss"] for r in here if r["target_loss"] is not None]
        goal = (
            f"target loss about {tables.mean(targets):.4g}" if targets else "no target"
        )
        lines = _lines(here, bases or {})
        parts.append(f"### {place[0]}, {place[1]}: {goal}\n\n{_HEAD}{lines}\n")
    return "\n".join(parts)


def _lines(here: Sequence[Row], bases: Mapping[str, str]) -> str:
    groups = {r["run"]: [x for x in here if x["run"] == r["run"]] for r in here}
    first = next(iter(groups))
    base = {run: groups[bases.get(run, first)] for run in groups}
    return "".join(
        f"| {run} | {_count(rows, 'uploads_to_target')} "
        f"| {_ratio(base[run], rows, 'uploads_to_target')} "
        f"| {_count(rows, 'uplink_bytes_to_target')} "
        f"| {_ratio(base[run], rows, 'uplink_bytes_to_target')} "
        f"| {_count(rows, 'iterations_to_target')} "
        f"| {_count(rows, 'gradient_evaluations')} "
        f"| {_loss(rows)} | {_accuracy(rows)} |\n"
        for run, rows in groups.items()
    )


def _count(rows: Sequence[Row], column: str) -> str:
    found = [float(r[column]) for r in rows if r[column] is not None]
    if not found:
        return "not reached"
    missed = f" ({len(found)} of {len(rows)})" if len(found) < len(rows) else ""
    spread = f" ± {tables.deviation(found):,.0f}" if len(found) > 1 else ""
    return f"{tables.mean(found):,.0f}{spread}{missed}"


def _ratio(base: Sequence[Row], rows: Sequence[Row], column: str) -> str:
    pairs = [(b[column], r[column]) for b, r in zip(base, rows, strict=True)]
    known = [b / r for b, r in pairs if b is not None and r]
    if len(known) < len(pairs):
        return ""
    spread = f" ± {tables.deviation(known):.2g}" if len(known) > 1 else ""
    return f"{tables.mean(known):.3g}x{spread}"


def _loss(rows: Sequence[Row]) -> str:
    if any(r["final_loss"] is None for r in rows):
        return "diverged"
    losses = [float(r["final_loss"]) for r in rows]
    spread = f" ± {tables.deviation(losses):.2g}" if len(losses) > 1 else ""
    return f"{tables.mean(losses):.4f}{spread}"


def _accuracy(rows: Sequence[Row]) -> str:
    if any(r["final_accuracy"] is None for r in rows):
        return ""
    found = [100 * float(r["final_accuracy"]) for r in rows]
    spread = f" ± {tables.deviation(found):.1f}" if len(found) > 1 else ""
    return f"{tables.mean(found):.1f}{spread} %"


def ranking(runs: list[dict[str, str]]) -> list[Row]:
    """Rank the runs of a place by mean uplink bytes to the target.

    A run must reach the target with every seed to have a mean; the others follow by
    their final loss. ``x_fewer_bytes`` compares with the first run, seed by seed.
    """
    groups = {row["run"]: [r for r in runs if r["run"] == row["run"]] for row in runs}
    base = next(iter(groups.values()))
    rows = [_ranked(mine, base) for mine in groups.values()]
    rows.sort(key=lambda r: (r["uplink_bytes"] or math.inf, r["final_loss"]))
    return [{**row, "rank": place} for place, row in enumerate(rows, 1)]


def _ranked(mine: list[dict[str, str]], base: list[dict[str, str]]) -> Row:
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
