"""Theorems 1 to 3 and the Lyapunov function, measured beside what they state."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from .. import tables
from ..plots import studies
from ..tables import Row
from . import captions
from .store import Store
from .study import Study
from .theorem_runs import Case, measure

LAZY = ("wk1", "wk2", "ps")


def cases(study: Study) -> Iterator[Case]:
    """Return all runs; SGD has no c, and the one-sided case none but the theorem's."""
    o = study.options
    variants = [("sgd", "theorem"), *((m, c) for c in ("theorem", "practical")
                                     for m in LAZY)]  # fmt: skip
    for seed in range(study.seeds):
        for method, c in variants:
            for theorem in ("1", "2"):
                for rounds in o["rounds"]:
                    yield Case(theorem, method, c, rounds, seed)
            yield Case("3", method, c, o["rounds_3"], seed)
            if c == "theorem":
                yield Case("lyapunov", method, c, o["lyapunov_rounds"], seed)
        for method in ("sgd", "wk2"):
            yield Case("3 one-sided", method, "theorem", o["one_sided_rounds"], seed)


def planned(study: Study) -> int:
    """Return how many results are needed."""
    return len(list(cases(study)))


def produce(study: Study, store: Store, out: Path) -> list[Path]:
    """Write ``rates.csv``, ``slopes.csv``, ``lyapunov.csv`` and ``theorems.png``."""
    found: dict[Case, list[Row]] = {}
    for case in cases(study):
        spec = {"kind": "theorem", "options": study.options, "case": asdict(case)}
        name = f"theorem {case.theorem} {case.method} {case.c} K={case.rounds}"
        result = store.get(spec, name, partial(measure, case, study.options))
        found[case] = result["points"]
    rows = _means(found)
    rates = [r for r in rows if r["theorem"] != "lyapunov"]
    descent = [r for r in rows if r["theorem"] == "lyapunov"]
    tables.write(out / "rates.csv", rates)
    tables.write(out / "lyapunov.csv", descent)
    slopes = _slopes(rates)
    tables.write(out / "slopes.csv", slopes)
    o, path = study.options, out / "theorems.png"
    caption = f"{captions.of(study)} D = {o['max_delay']}, batch {o['batch']}, mean of "
    caption += f"{study.seeds} seeds."
    title = f"{study.title}: measured and stated"
    studies.theorems(title, caption, o["rounds"], rows, path)
    names = ("rates.csv", "slopes.csv", "lyapunov.csv", "theorems.png")
    return [out / name for name in names]


def _means(found: dict[Case, list[Row]]) -> list[Row]:
    """Return the mean over the seeds, with deviation, of each case and K."""
    groups: dict[tuple[str, str, str, int], list[Row]] = {}
    for case, points in found.items():
        for point in points:
            key = (case.theorem, case.method, case.c, point["K"])
            groups.setdefault(key, []).append(point)
    rows = []
    for (theorem, method, c, k), points in groups.items():
        measured = [p["measured"] for p in points]
        stated = tables.mean(p["stated"] for p in points)
        rows.append(
            {
                "theorem": theorem,
                "method": method,
                "c": c,
                "K": k,
                "seeds": len(points),
                "measured": tables.mean(measured),
                "deviation": tables.deviation(measured),
                "stated": stated,
                "measured_over_stated": tables.mean(measured) / stated,
                "upload_share": tables.mean(p["uploads"] for p in points),
            }
        )
    return rows


def _slopes(rates: list[Row]) -> list[Row]:
    """Return the slope of log measured against log K: stated −1/2, and −1 for 3.

    Theorem 3 is about K + K_0 for K large; the second half of the checkpoints counts.
    """
    rows = []
    stated = {"1": -0.5, "2": -0.5, "3": -1.0, "3 one-sided": -1.0}
    for key in dict.fromkeys((r["theorem"], r["method"], r["c"]) for r in rates):
        mine = [r for r in rates if (r["theorem"], r["method"], r["c"]) == key]
        if key[0].startswith("3"):
            mine = mine[len(mine) // 2 :]
        x, y, bound = (
            np.log([r[name] for r in mine]) for name in ("K", "measured", "stated")
        )
        rows.append(
            {
                "theorem": key[0],
                "method": key[1],
                "c": key[2],
                "slope": float(np.polyfit(x, y, 1)[0]),
                "slope_of_the_stated_bound": float(np.polyfit(x, bound, 1)[0]),
                "stated_rate": stated[key[0]],
                "largest_measured_over_stated": max(
                    r["measured_over_stated"] for r in mine
                ),
                "upload_share": mine[-1]["upload_share"],
            }
        )
    return rows
