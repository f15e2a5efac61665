"""The runs of the drop-in projects: their file, their means, their table."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from .. import tables
from .projects import PROJECTS, VARIANTS

T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom."""


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes
    ----------
    requests, uploads : int
        Training requests, and replies that carried arrays.
    uplink_payload_bytes : int
        Bytes of these arrays.
    uplink_message_bytes, downlink_message_bytes : int
        Whole training messages as Flower counts them, see `lasg_flwr.flower.traffic`.
    test_loss, test_accuracy : float
        Of the model that the project saved, on MNIST's test set.
    seconds : float
        Processor time.
    """

    project: str
    variant: str
    seed: int
    rounds: int
    requests: int
    uploads: int
    uplink_payload_bytes: int
    uplink_message_bytes: int
    downlink_message_bytes: int
    test_loss: float
    test_accuracy: float
    seconds: float

    @property
    def key(self) -> tuple[str, str, int]:
        """What a run is known by."""
        return self.project, self.variant, self.seed

    def append_to(self, path: Path) -> None:
        """Add this run to a file, with a header if it is new."""
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(self)])
            if new:
                writer.writeheader()
            writer.writerow(asdict(self))

    @classmethod
    def read(cls, path: Path) -> "list[Row]":
        """Return the runs of a file; none if there is no file."""
        casts: Any = {f.name: f.type for f in fields(cls)}
        return [
            cls(**{name: casts[name](text) for name, text in line.items()})
            for line in tables.read(path)
        ]


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return mean and half width of Student's 95 % confidence interval.

    There must be two to ten differences, one for each seed.

    Examples
    --------
    >>> interval([-1.0, 0.0, 1.0])[0]
    0.0
    >>> round(interval([-1.0, 0.0, 1.0])[1], 3)
    2.484
    """
    n = len(differences)
    if not 2 <= n <= len(T_975) + 1:
        raise ValueError(f"an interval needs 2 to {len(T_975) + 1} seeds, got {n}")
    return mean(differences), T_975[n - 2] * stdev(differences) / math.sqrt(n)


def summarise(rows: Sequence[Row], project: str, variant: str) -> dict[str, Any]:
    """Return the means of a variant, and what it loses against the plain project.

    The difference of accuracies is in percentage points, paired by seed.
    """
    mine = {r.seed: r for r in rows if (r.project, r.variant) == (project, variant)}
    plain = {r.seed: r for r in rows if (r.project, r.variant) == (project, "plain")}
    seeds = sorted(set(mine) & set(plain))
    found: dict[str, Any] = {"project": project, "variant": variant, "seeds": seeds}
    for name in [f.name for f in fields(Row)][3:]:
        found[name] = mean(getattr(mine[s], name) for s in seeds)
    if variant != "plain":
        points = [100 * (mine[s].test_accuracy - plain[s].test_accuracy) for s in seeds]
        found["accuracy_points"], found["accuracy_points_95"] = interval(points)
        for name in ("uploads", "uplink_payload_bytes", "uplink_message_bytes"):
            base = mean(getattr(plain[s], name) for s in seeds)
            found[f"fewer_{name}"] = base / found[name]
    return found


def write_summary(out: Path) -> str:
    """Write ``summary.json`` and ``table.md`` beside ``runs.csv``; return the table."""
    rows = Row.read(out / "runs.csv")
    present = {(row.project, row.variant) for row in rows}
    found = [
        summarise(rows, project, variant)
        for project in PROJECTS
        for variant in VARIANTS
        if {(project, variant), (project, "plain")} <= present
    ]
    (out / "summary.json").write_text(json.dumps(found, indent=1) + "\n")
    table = "\n".join([_HEAD, *map(_line, found)]) + "\n"
    (out / "table.md").write_text(table)
    return table


_HEAD = """\
| project | variant | uploads | payload up, MB | messages up, MB | test accuracy, % \
| difference, points (95 %) |
|---|---|---|---|---|---|---|"""


def _line(s: dict[str, Any]) -> str:
    def with_factor(name: str, text: str) -> str:
        factor = s.get(f"fewer_{name}")
        return text if factor is None else f"{text} (1/{factor:.1f})"

    difference = ""
    if s["variant"] != "plain":
        difference = f"{s['accuracy_points']:+.2f} ± {s['accuracy_points_95']:.2f}"
    cells = [
        s["project"],
        s["variant"],
        with_factor("uploads", f"{s['uploads']:.0f}"),
        *(
            with_factor(name, f"{s[name] / 1e6:.2f}")
            for name in ("uplink_payload_bytes", "uplink_message_bytes")
        ),
        f"{100 * s['test_accuracy']:.2f}",
        difference,
    ]
    return f"| {' | '.join(cells)} |"
