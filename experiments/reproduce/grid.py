"""Learning rates by grid search: "We did a grid search for best learning rates"."""

import math
from collections.abc import Callable

from .config import Place, RunSpec, Study
from .store import Result, Store

Cost = Callable[[Result], float]
"""What the best learning rate makes smallest."""


def final_loss(result: Result) -> float:
    """Return the final loss; infinity for a run that diverged."""
    loss = result["totals"]["final_loss"]
    return math.inf if loss is None else float(loss)


def planned(study: Study) -> int:
    """Return how many results a study with grids asks for."""
    each = sum(study.seeds + len(run.learning_rates) for run in study.runs)
    return len(study.places) * each


def choose(
    study: Study, store: Store, place: Place, run: RunSpec, cost: Cost = final_loss
) -> tuple[float, list[dict[str, object]]]:
    """Return the learning rate of a run at a place, and a row for each one tried.

    The grid is searched with seed 0; the smallest `cost` wins, of equals the lower
    learning rate.
    """
    if not run.learning_rates:
        return study.job(place, run, 0).learning_rate, []
    tried = {
        rate: cost(store.job(study.job(place, run, 0, rate)))
        for rate in sorted(run.learning_rates)
    }
    best = min(tried, key=lambda rate: tried[rate])
    rows: list[dict[str, object]] = [
        {
            "dataset": place.dataset,
            "partition": place.partition,
            "run": run.label,
            "learning_rate": rate,
            "cost": value,
            "chosen": rate == best,
        }
        for rate, value in tried.items()
    ]
    return best, rows
