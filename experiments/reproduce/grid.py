"""Learning rates by grid search: "We did a grid search for best learning rates"."""

import math
from collections.abc import Callable, Iterator

from ..run import Run
from ..training import to_target
from .store import Result, Store
from .study import Entry, Place, Study

Cost = Callable[[Result], float]
"""What the best learning rate makes smallest."""


def final_loss(result: Result) -> float:
    """Return the final loss; infinity for a run that diverged."""
    loss = result["totals"]["final_loss"]
    return math.inf if loss is None else float(loss)


def planned(study: Study) -> int:
    """Return how many results a study with grids asks for."""
    each = sum(study.seeds + len(run.learning_rates) for run in study.runs)
    each += study.options.get("choose_by") == "bytes"
    return len(study.places) * each


def known(study: Study) -> Iterator[Run]:
    """Yield the runs that hang on no result: of grids, those of the search."""
    for seed in range(study.seeds):
        for place in study.places:
            for entry in study.runs:
                if not entry.learning_rates:
                    yield study.run(place, entry, seed)
                elif seed == 0:
                    for rate in sorted(entry.learning_rates):
                        yield study.run(place, entry, seed, rate)


def uplink_bytes_to(target: float) -> Cost:
    """Return the cost "bytes to a loss"; what misses it ranks behind, by its loss."""

    def cost(result: Result) -> float:
        reached = to_target(result["history"], target)["uplink_bytes_to_target"]
        return float(reached) if reached is not None else 1e15 * final_loss(result)

    return cost


def choose_all(
    study: Study, store: Store, place: Place
) -> tuple[dict[str, float], list[dict[str, object]]]:
    """Return the learning rate of each run, and a row for each one tried.

    By the final loss; with the option ``choose_by = "bytes"`` all but the first run,
    which sets the target, are chosen by uplink bytes to the target.
    """
    rates, rows = {}, []
    cost: Cost = final_loss
    for run in study.runs:
        rates[run.label], tried = choose(study, store, place, run, cost)
        rows += tried
        if run is study.runs[0] and study.options.get("choose_by") == "bytes":
            first = store.run(study.run(place, run, 0, rates[run.label]))
            cost = uplink_bytes_to(study.factor(place) * final_loss(first))
    return rates, rows


def choose(
    study: Study, store: Store, place: Place, run: Entry, cost: Cost = final_loss
) -> tuple[float, list[dict[str, object]]]:
    """Return the learning rate of a run at a place, and a row for each one tried.

    The grid is searched with seed 0; the smallest `cost` wins, of equals the lower
    learning rate.
    """
    if not run.learning_rates:
        return study.run(place, run, 0).learning_rate, []
    tried = {
        rate: cost(store.run(study.run(place, run, 0, rate)))
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
