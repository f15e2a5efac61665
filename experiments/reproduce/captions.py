"""What stands under a study's plots."""

from collections.abc import Sequence

from ..run import LOCAL
from .study import Entry, Place, Study


def of(study: Study, *parts: str) -> str:
    """Return the study's caption with what a plot adds, and that it is a quick one."""
    added = "; ".join(filter(None, parts))
    found = [study.caption, f"{added}." if added else ""]
    if study.quick:
        found.append("QUICK VERSION: not the paper's experiment.")
    return " ".join(filter(None, found))


def parameters(study: Study, place: Place, entries: Sequence[Entry]) -> str:
    """Return the parameters that all these runs have in common."""
    runs = [study.run(place, entry, 0) for entry in entries]
    lazy = any(run.method not in ("sgd", *LOCAL) for run in runs)
    texts = (
        ["" if entry.learning_rates else f"η = {run.learning_rate:g}"
         for entry, run in zip(entries, runs, strict=True)],
        [f"D = {run.max_delay}, d_max = {run.d_max}" if lazy else "" for run in runs],
        [f"batch {run.batch_size}" if run.batch_size is not None
         else f"batch {run.batch_fraction:g} of a worker's data" for run in runs],
        [f"{run.iterations} iterations" for run in runs],
    )  # fmt: skip
    common = [text[0] for text in texts if len(set(text)) == 1]
    return ", ".join(filter(None, common))


def seeds(study: Study) -> str:
    """Return how many seeds the plots show."""
    if study.seeds == 1:
        return "one seed"
    return f"lines: mean of {study.seeds} seeds, bands: range"
