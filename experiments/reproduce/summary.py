"""The runs of a study as a table for reading: mean ± deviation over the seeds."""

from collections.abc import Mapping, Sequence

from . import tables
from .tables import Row

_HEAD = (
    "| run | uploads to target | fewer than SGD | uplink bytes to target | fewer than "
    "SGD | iterations to target | gradients, whole run | final loss | test accuracy |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def markdown(runs: Sequence[Row], bases: Mapping[str, str] | None = None) -> str:
    """Return one table for each data set and partition.

    Parameters
    ----------
    runs : sequence of dict
        The rows of ``runs.csv``.
    bases : mapping, optional
        The run that a run is compared with, where it is not the first of its place.
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
