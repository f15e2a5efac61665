"""Where a method breaks the promise, and what it saves where it keeps it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from .suite import RECORDED, Cell

POINTS = 1.0
"""Points of accuracy that a method may be behind."""
LOSS = 1.02
"""Factor by which its loss may be above."""
CONTROL = "another seed"
"""SGD or FedAvg with the next seed's batches and data, held against its own seed's."""

Row = dict[str, Any]
Histories = Mapping[int, Sequence[Mapping[str, Any]]]
"""The evaluated rounds of a method's runs, by seed."""


class Gap(NamedTuple):
    """A method beside SGD or FedAvg at one round, medians over the seeds.

    Attributes
    ----------
    points : float
        Points of accuracy behind.
    loss : float
        Its loss divided by theirs.
    saved : float
        Their uploads divided by its.
    """

    points: float
    loss: float
    saved: float

    @property
    def kept(self) -> bool:
        """Whether the promise is kept."""
        return self.points <= POINTS and self.loss <= LOSS


def gaps(plain: Histories, method: Histories) -> dict[int, Gap]:
    """Return what lies between two methods at each recorded round.

    Seeds that both have are compared in pairs. A run that diverged has no more rounds;
    it is infinitely far behind then.
    """
    found: dict[int, Gap] = {}
    for k in RECORDED:
        pairs = [(_at(plain[s], k), _at(method[s], k)) for s in plain if s in method]
        known = [(a, b) for a, b in pairs if a is not None]
        if known:
            found[k] = Gap(*map(median, zip(*(_gap(*p) for p in known), strict=True)))
    return found


def _gap(plain: Mapping[str, Any], other: Mapping[str, Any] | None) -> Gap:
    if other is None:
        return Gap(100.0, float("inf"), 1.0)
    return Gap(
        100 * (plain["accuracy"] - other["accuracy"]),
        other["loss"] / plain["loss"],
        plain["uploads"] / other["uploads"],
    )


def _at(history: Sequence[Mapping[str, Any]], k: int) -> Mapping[str, Any] | None:
    return next((row for row in history if row["round"] == k), None)


def control(plain: Histories) -> Histories:
    """Return SGD's or FedAvg's own runs, each under the seed before it.

    What it breaks is how far two honest runs lie apart.
    """
    seeds = sorted(plain)
    if len(seeds) < 2:
        return {}
    return {s: plain[t] for s, t in zip(seeds, seeds[1:] + seeds[:1], strict=True)}


def verdicts(results: Mapping[tuple[Cell, str], Histories]) -> list[Row]:
    """Return a row for each cell, method and recorded round."""
    rows: list[Row] = []
    for (cell, method), histories in _with_controls(results).items():
        plain = results[cell, cell.plain]
        if method == cell.plain:
            continue
        for k, gap in gaps(plain, histories).items():
            rows.append(
                {
                    **vars(cell),
                    "method": method,
                    "round": k,
                    "seeds": len(set(plain) & set(histories)),
                    "points_behind": gap.points,
                    "loss_factor": gap.loss,
                    "uploads_saved": gap.saved,
                    "kept": int(gap.kept),
                }
            )
    return rows


def _with_controls(
    results: Mapping[tuple[Cell, str], Histories],
) -> dict[tuple[Cell, str], Histories]:
    found = {key: value for key, value in results.items() if value}
    for cell in dict.fromkeys(cell for cell, _ in results):
        if again := control(results[cell, cell.plain]):
            found[cell, CONTROL] = again
    return found


def summary(rows: Sequence[Row]) -> str:
    """Return the table of broken promises and savings, in Markdown."""
    by_method: dict[str, dict[Cell, list[Row]]] = defaultdict(dict)
    names = ("dataset", "partition", "local_steps", "schedule")
    for row in rows:
        cell = Cell(*(row[name] for name in names))
        by_method[row["method"]].setdefault(cell, []).append(row)
    lines = ["| method | cells | kept | uploads saved there, median (range) |",
             "|---|---|---|---|"]  # fmt: skip
    for method, found in by_method.items():
        kept = [r[-1]["uploads_saved"] for r in found.values() if _all_kept(r)]
        saved = "" if not kept or method == CONTROL else (
            f"{median(kept):.1f} x ({min(kept):.1f} to {max(kept):.1f})")  # fmt: skip
        lines.append(f"| {method} | {len(found)} | {len(kept)} | {saved} |")
    lines += ["", "| cell | seeds | method | promise | uploads saved |",
              "|---|---|---|---|---|"]  # fmt: skip
    for cell in dict.fromkeys(c for found in by_method.values() for c in found):
        for method, found in by_method.items():
            if cell in found:
                lines.append(_line(cell, method, found[cell]))
    return "\n".join(lines) + "\n"


def _all_kept(rows: Sequence[Row]) -> bool:
    return all(row["kept"] for row in rows)


def _line(cell: Cell, method: str, rows: Sequence[Row]) -> str:
    name = f"{cell.dataset} {cell.partition} H={cell.local_steps} {cell.schedule}"
    broken = "; ".join(_broken(row) for row in rows if not row["kept"])
    last = rows[-1]
    saved = "" if method == CONTROL else f"{last['uploads_saved']:.1f} x"
    return f"| {name} | {last['seeds']} | {method} | {broken or 'kept'} | {saved} |"


def _broken(row: Row) -> str:
    parts = []
    if row["points_behind"] > POINTS:
        parts.append(f"{row['points_behind']:.1f} points behind")
    if row["loss_factor"] > LOSS:
        parts.append(f"loss x {row['loss_factor']:.2f}")
    return f"round {row['round']}: {', '.join(parts)}"
