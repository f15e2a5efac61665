"""The appendix on sparse local SGD: curves, the lemmas, and the bound of Theorem 1."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lasg_flwr.oracles.batches import BatchSchedule

from .. import tables
from ..plots import studies
from ..sparse_diagnostics import Iteration, SparseRun
from ..sparse_rate import rate_problem, rate_rows, slope
from ..tasks import Batch, Task, build_task
from . import curves, grid
from .store import Store
from .study import Study

_LEMMAS = (
    "Digits by label, M = 10, softmax regression, H = 5, η = 0.1, k_m of 1, 2, 5 and "
    "10 % of the coordinates in turn, batches from 4 growing by 1.002, seed 0; G is "
    "the largest gradient norm seen. A share of 1 would be the bound itself."
)
_RATE = (
    "Logistic and sigmoid loss (non-convex) on 64 points that all 4 devices have, "
    "H = 4, k_m of 3, 5, 3 and 8 of 10 coordinates, batches from 2 growing by 1.01, "
    "η = θ√(M/T), mean of the seeds. Dashed: (16) with its second term as "
    "8ρθLσ²/((ρ−1) b₀ √M T^1.5)."
)


def planned(study: Study) -> int:
    """Return how many results the study asks for."""
    return grid.planned(study) + 2


def produce(study: Study, store: Store, out: Path) -> list[Path]:
    """Write what `curves` writes, and CSV and plots of the lemmas and of Theorem 1.

    ``laws.csv`` has how near each of them comes to being broken.
    """
    written = curves.produce(study, store, out)
    lemmas = store.get(
        {"kind": "sparse lemmas", "rounds": study.options["lemma_rounds"]},
        "Lemmas 1 to 3",
        lambda: {"rows": _lemmas(study.options["lemma_rounds"])},
    )
    iterations = [Iteration(**row) for row in lemmas["rows"]]
    write_lemmas(iterations, out)
    horizons = study.options["horizons"]
    seeds = range(study.options["rate_seeds"])
    rates = store.get(
        {"kind": "sparse rate", "horizons": horizons, "seeds": len(seeds)},
        "Theorem 1",
        lambda: {"rows": all_rates(horizons, seeds)},
    )
    write_rate(rates["rows"], out)
    tables.write(out / "laws.csv", law_rows(iterations, rates["rows"]))
    names = ("lemmas.csv", "lemmas.png", "rate.csv", "rate.png", "laws.csv")
    return [*written, *(out / name for name in names)]


def _lemmas(rounds: int) -> list[dict[str, Any]]:
    task = build_task("digits", 10, "by-label", Batch(size=8))
    return [asdict(row) for row in lemma_rows(task, rounds)]


def lemma_rows(task: Task, rounds: int = 100, seed: int = 0) -> list[Iteration]:
    """Run sparse local SGD on a task; return both sides of the lemmas at every t.

    H = 5, η = 0.1, k_m of 1 %, 2 %, 5 % and 10 % of the coordinates in turn, b^(0) = 4,
    ρ = 1.002.
    """
    run = SparseRun(
        task.oracles,
        np.zeros(task.size),
        steps=5,
        learning_rate=0.1,
        top_k=(0.01, 0.02, 0.05, 0.1),
        schedule=BatchSchedule(4, 1.002),
        seed=seed,
    )
    return [row for _ in range(rounds) for row in run.round()]


def write_lemmas(rows: Sequence[Iteration], out: Path) -> None:
    """Write ``lemmas.csv`` and ``lemmas.png`` into the folder `out`."""
    table = [asdict(row) for row in rows]
    tables.write(out / "lemmas.csv", table)
    studies.lemmas(_LEMMAS, table, out / "lemmas.png")


def all_rates(horizons: Sequence[int], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return the rows of Theorem 1 for the convex and the non-convex task."""
    return [
        row
        for convex in (True, False)
        for row in rate_rows(rate_problem(convex), horizons, seeds=seeds)
    ]


def law_rows(
    lemmas: Sequence[Iteration], rates: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the worst case of each lemma, and of Theorem 1 its bound and its slope.

    The slope is that over the upper half of the horizons, where the first term rules.
    """
    rows = [
        ("Lemma 1", "digits", max(row.memory_gap for row in lemmas)),
        ("Lemma 2", "digits", max(r.deviation / r.deviation_bound for r in lemmas)),
        ("Lemma 3", "digits", max(r.error / r.error_bound for r in lemmas)),
    ]
    for name in dict.fromkeys(row["task"] for row in rates):
        mine = [row for row in rates if row["task"] == name]
        over = max(row["mean_squared_gradient"] / row["bound"] for row in mine)
        rows.append(("Theorem 1, bound", name, over))
        rows.append(("Theorem 1, slope", name, slope(mine[-(len(mine) // 2 + 1) :])))
    return [{"law": law, "problem": on, "value": value} for law, on, value in rows]


def write_rate(rows: Sequence[dict[str, Any]], out: Path) -> dict[str, float]:
    """Write ``rate.csv`` and ``rate.png`` into `out`; return the slope of each task."""
    tables.write(out / "rate.csv", rows)
    names = dict.fromkeys(row["task"] for row in rows)
    slopes = {name: slope([r for r in rows if r["task"] == name]) for name in names}
    studies.rate(_RATE, rows, slopes, out / "rate.png")
    return slopes
