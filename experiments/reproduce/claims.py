"""The paper's sentences that can be checked, against results that exist.

A claim is a table ``[[options.claims]]`` of ``claims.toml``: a sentence, where its
numbers are (figures, file, rows, column), and the interval that they must lie in. One
value is made for each place and seed; a place counts by the mean of its seeds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

from .. import tables
from ..tables import Row
from .store import Store
from .study import ConfigError, Study

Value = Literal["ratio", "difference"]
CsvRow = dict[str, str]
NOT_RUN = "not run"


@dataclass(frozen=True)
class Claim:
    """A sentence and how it is checked.

    Attributes
    ----------
    text, section : str
        What the paper says, and where.
    figures : list of str
        Studies whose results are read.
    column : str
        Column, or a sum of columns joined by "+".
    file : str
        CSV of each study.
    run, base : str
        Beginnings of the runs' labels; `base` is what `run` is compared with.
    where : mapping
        Values that other columns must have.
    by : list of str
        Columns that make up a place.
    value : {"ratio", "difference"}
        base/run (infinite where only the base misses the target) or run − base;
        without a `base` the column itself.
    low, high : float
        The interval that agrees with the sentence.
    largest : bool
        Whether a place counts by its largest value instead of its mean.
    unit, note : str
        Written behind the figure; written into the last column.
    """

    text: str
    section: str
    figures: list[str]
    column: str
    file: str = "runs.csv"
    run: str = ""
    base: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    by: list[str] = field(default_factory=lambda: ["dataset", "partition"])
    value: Value = "ratio"
    low: float = -math.inf
    high: float = math.inf
    largest: bool = False
    unit: str = ""
    note: str = ""


def planned(study: Study) -> int:
    """Return 0: nothing is computed."""
    del study
    return 0


def produce(study: Study, store: Store, out: Path) -> list[Path]:
    """Write ``claims.csv`` and ``claims.md`` from the other studies' folders."""
    del store
    claims = [_claim(raw) for raw in study.options["claims"]]
    rows = [check(claim, out.parent) for claim in claims]
    tables.write(out / "claims.csv", rows)
    mark = "Quick versions: not the paper's experiments.\n\n" if study.quick else ""
    (out / "claims.md").write_text(mark + markdown(rows))
    return [out / "claims.csv", out / "claims.md"]


def _claim(raw: Mapping[str, Any]) -> Claim:
    try:
        return Claim(**raw)
    except TypeError as error:
        raise ConfigError(f"claims.toml, {raw.get('text')!r}: {error}") from None


def check(claim: Claim, root: Path) -> Row:
    """Return a row: the claim, our figure, its spread, and the verdict."""
    places = values(claim, root)
    means = {place: _one(claim, found) for place, found in places.items()}
    known = [m for m in means.values() if m is not None]
    good = [m for m in known if claim.low <= m <= claim.high]
    return {
        "claim": claim.text,
        "section": claim.section,
        "evidence": _evidence(claim),
        "ours": _ours(known, claim.unit),
        "range_over_places": _range(known, claim.unit),
        "deviation_over_seeds": _spread(places, claim.unit),
        "agree": f"{len(good)} of {len(means)}" if means else "",
        "verdict": _verdict(len(good), len(means)),
        "note": _note(claim, means),
    }


def values(claim: Claim, root: Path) -> dict[tuple[str, ...], list[float | None]]:
    """Return one value for each place and seed; None where a count is missing.

    Raises
    ------
    ConfigError
        If a file is there but has no such column, run or base.
    """
    found: dict[tuple[str, ...], list[float | None]] = {}
    for figure in claim.figures:
        rows = tables.read(root / figure / claim.file)
        if not rows:
            continue
        _check_columns(claim, figure, rows[0])
        mine = [r for r in rows if r.get("run", "").startswith(claim.run)]
        if not mine:
            raise _error(claim, f"no row of {figure} is of run {claim.run!r}")
        seen = set()
        for row in filter(partial(_fits, claim), mine):
            place = (figure, *(row[name] for name in claim.by))
            key = (place, row.get("seed"))
            if key in seen and "seed" in row:
                raise _error(claim, f"two rows of {figure} are one place and seed")
            seen.add(key)
            base = _base_of(row, claim, rows, figure) if claim.base else None
            found.setdefault(place, []).append(_value(claim, row, base))
    return found


def _check_columns(claim: Claim, figure: str, row: CsvRow) -> None:
    names = [*claim.column.split("+"), *claim.by, *claim.where]
    if missing := [name for name in names if name not in row]:
        raise _error(claim, f"{figure}/{claim.file} has no column {missing[0]!r}")


def _error(claim: Claim, what: str) -> ConfigError:
    return ConfigError(f"claims.toml, {claim.text!r}: {what}")


def _fits(claim: Claim, row: CsvRow) -> bool:
    return all(row.get(name) == value for name, value in claim.where.items())


def _base_of(row: CsvRow, claim: Claim, rows: list[CsvRow], figure: str) -> CsvRow:
    keys = ("dataset", "partition", "seed", "workers", "size")
    for other in rows:
        same = all(other.get(key) == row.get(key) for key in keys)
        if same and other.get("run", "").startswith(claim.base):
            return other
    raise _error(claim, f"no row of {figure} is of the base {claim.base!r}")


def _value(claim: Claim, row: CsvRow, base: CsvRow | None) -> float | None:
    mine = _number(row, claim.column)
    if base is None or mine is None:
        return mine
    other = _number(base, claim.column)
    if claim.value == "difference":
        return None if other is None else mine - other
    if other is None:
        return math.inf  # the base never got there
    return other / mine if mine else math.inf


def _number(row: CsvRow, column: str) -> float | None:
    parts = [row[name] for name in column.split("+")]
    return None if "" in parts else math.fsum(float(part) for part in parts)


def _one(claim: Claim, found: list[float | None]) -> float | None:
    """Return what a place counts by; None if a seed misses the target."""
    known = [v for v in found if v is not None]
    if len(known) < len(found):
        return None
    return max(known) if claim.largest else tables.mean(known)


def _evidence(claim: Claim) -> str:
    what = f"{claim.run or 'all'}: {claim.column}"
    if claim.base:
        ratio = claim.value == "ratio"
        what = f"{claim.base} / {what}" if ratio else f"less {claim.base}, {what}"
    return f"{', '.join(claim.figures)}: {what}"


def _ours(known: list[float], unit: str) -> str:
    return _text(median(known), unit) if known else ""


def _range(known: list[float], unit: str) -> str:
    return f"{_text(min(known), '')} to {_text(max(known), unit)}" if known else ""


def _text(value: float, unit: str) -> str:
    return "∞" if value == math.inf else f"{value:.3g}{unit}"


def _spread(places: dict[tuple[str, ...], list[float | None]], unit: str) -> str:
    """Return the mean over the places of the deviation over the seeds."""
    spreads = [
        tables.deviation(known)
        for found in places.values()
        if len(known := [v for v in found if v is not None and v < math.inf]) > 1
    ]
    return f"{tables.mean(spreads):.2g}{unit}" if spreads else ""


def _verdict(good: int, total: int) -> str:
    if total == 0:
        return NOT_RUN
    if good == total:
        return "agrees"
    return "agrees in part" if good > 0 else "differs"


def _note(claim: Claim, means: dict[tuple[str, ...], float | None]) -> str:
    bad = [
        f"{' '.join(place[1:])} {'not reached' if m is None else f'{m:.3g}'}"
        for place, m in means.items()
        if m is None or not claim.low <= m <= claim.high
    ]
    outside = f"outside: {'; '.join(bad)}" if bad else ""
    return ". ".join(part for part in (outside, claim.note) if part)


def markdown(rows: list[Row]) -> str:
    """Return the table for reading."""
    head = (
        "| the paper says | ours: median over places (range; deviation over seeds) "
        "| verdict | why |\n|---|---|---|---|\n"
    )
    lines = [
        f"| {r['claim']} ({r['section']}) | {_cell(r)} | {r['verdict']} "
        f"{'(' + r['agree'] + ')' if r['agree'] else ''} | {r['note']} |"
        for r in rows
    ]
    return head + "\n".join(lines) + "\n"


def _cell(row: Row) -> str:
    if not row["ours"]:
        return str(row["evidence"])
    spread = row["deviation_over_seeds"]
    inner = row["range_over_places"] + (f"; ± {spread}" if spread else "")
    return f"{row['ours']} ({inner}) — {row['evidence']}"
