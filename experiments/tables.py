"""CSV files whose bytes depend on their values alone."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with equal columns; floats with seven digits, None as nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: text(v) for k, v in row.items()} for row in rows)


def text(value: object) -> str:
    """Return a value as it stands in a CSV.

    Examples
    --------
    >>> text(1 / 3), text(None), text(2)
    ('0.3333333', '', '2')
    """
    if value is None:
        return ""
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def read(path: Path) -> list[dict[str, str]]:
    """Read a CSV; a missing file has no rows."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def mean(values: Iterable[float]) -> float:
    """Return the mean; NaN of nothing."""
    found = list(values)
    return math.fsum(found) / len(found) if found else math.nan


def band(
    histories: Sequence[Sequence[Mapping[str, Any]]], means: Sequence[str]
) -> list[Row]:
    """Return a row for each evaluation that all seeds have.

    Of the columns `means` the mean is kept; of loss and accuracy their range as well.
    """
    rows = []
    for at in zip(*histories, strict=False):
        row: Row = {}
        for name in ("loss", "accuracy"):
            values = [float(r[name]) for r in at]
            row[name] = mean(values)
            row[f"{name}_low"], row[f"{name}_high"] = min(values), max(values)
        rows.append(row | {name: mean(float(r[name]) for r in at) for name in means})
    return rows


def deviation(values: Iterable[float]) -> float:
    """Return the sample standard deviation; 0 of a single value.

    Examples
    --------
    >>> deviation([1.0, 3.0]), deviation([5.0])
    (1.4142135623730951, 0.0)
    """
    found = list(values)
    if len(found) < 2:
        return 0.0
    centre = mean(found)
    return math.sqrt(math.fsum((x - centre) ** 2 for x in found) / (len(found) - 1))
