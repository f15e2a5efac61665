"""The appendix on sparse local SGD: curves, the lemmas, and the bound of Theorem 1."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..sparse_appendix import (
    all_rates,
    law_rows,
    lemma_rows,
    write_lemmas,
    write_rate,
)
from ..sparse_diagnostics import Iteration
from ..tasks import Batch, build_task
from . import curves, grid, tables
from .config import Study
from .store import Store


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
