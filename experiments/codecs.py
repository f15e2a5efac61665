"""Every codec in every memory it makes sense in, by uplink bytes to a common loss."""

from collections.abc import Sequence
from dataclasses import replace

from rich.table import Table

from lasg_flwr.config import MemoryName
from lasg_flwr.ledger import human_bytes

from .compare import TARGET_FACTOR, Compared, gather
from .run import Run
from .table import DISPLAY_NAMES, setting
from .tasks import Task
from .training import Progress, Row, train

METHODS = ("sgd", "wk2", "pse", "vr")
MEMORIES: tuple[MemoryName, ...] = ("innovation", "gradient", "error")
CODECS = (
    "dense",
    "float16",
    "qsgd:bits=8",
    "qsgd:bits=4",
    "qsgd:bits=2",
    "uniform:bits=4",
    "natural",
    "sign",
    "topk:fraction=0.05",
    "topk-qsgd:fraction=0.05",
    "randk:fraction=0.05",
    "ecsq:error=0.1",
    "ecsq:error=0.3",
    "ecsq:error=0.5",
)


def combinations(
    base: Run, codecs: Sequence[str] = CODECS, methods: Sequence[str] = METHODS
) -> list[Run]:
    """Return all combinations that `lasg_flwr` allows, dense ones once a rule.

    Dense SGD, the measure of the others, comes first, whatever `methods` says.

    Examples
    --------
    >>> [run.method for run in combinations(Run(), ["dense"])]
    ['sgd', 'wk2', 'pse', 'vr']
    """
    found = []
    for method in dict.fromkeys(("sgd", *methods)):
        for codec in codecs if method in methods else ("dense",):
            for memory in MEMORIES:
                if codec == "dense" and memory != "innovation":
                    continue
                try:
                    found.append(
                        replace(base, method=method, codec=codec, memory=memory)
                    )
                except ValueError:
                    continue
    return found


def study(
    runs: Sequence[Run],
    task: Task,
    factor: float = TARGET_FACTOR,
    progress: Progress = lambda: None,
) -> Compared:
    """Carry out runs of which the first is dense SGD, whose final loss is the measure.

    Returns
    -------
    Compared
        As `experiments.compare.compare` gives it, with ``x_fewer_bytes``: dense SGD's
        uplink bytes to the target over the run's.
    """
    done = [train(run, task, progress) for run in runs]
    found = gather(runs, done, task, factor=factor)
    entries = found.summary["runs"]
    dense = entries[0]["uplink_bytes_to_target"]
    for run in entries:
        reached = run["uplink_bytes_to_target"]
        run["x_fewer_bytes"] = dense / reached if dense and reached else None
    return found


def best_table(summary: Row, most: int = 12) -> Table:
    """Return the combinations that reach the target with the fewest uplink bytes."""
    reached = [r for r in summary["runs"] if r["uplink_bytes_to_target"] is not None]
    reached.sort(key=lambda r: r["uplink_bytes_to_target"])
    missed = len(summary["runs"]) - len(reached)
    columns = ("rule", "codec", "memory", "uploads", "uplink")
    table = Table(
        *(*columns, "x fewer bytes", "final loss"),
        title=setting(summary),
        caption=f"target loss {summary['target_loss']:.6g}; {missed} of "
        f"{len(summary['runs'])} combinations did not reach it",
    )
    for run in reached[:most]:
        table.add_row(
            DISPLAY_NAMES[run["method"]],
            run["codec"],
            run["memory"],
            str(run["uploads_to_target"]),
            human_bytes(run["uplink_bytes_to_target"]),
            f"{run['x_fewer_bytes']:.0f}x",
            f"{run['final_loss']:.4f}",
        )
    return table
