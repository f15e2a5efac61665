"""A run carried out: its evaluated rounds, and its totals."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lasg_flwr import LasgConfig, LasgError, LasgServer, simulate
from lasg_flwr.codecs.assignment import assigned_codecs
from lasg_flwr.protocol.rounds import RoundReport

from .batches import Batch
from .methods import build_rule, wrap
from .run import Run
from .tasks import Task, build_task

Row = dict[str, Any]
Progress = Callable[[], None]
COUNTS = (
    "uploads",
    "downloads",
    "uplink_bytes",
    "downlink_bytes",
    "gradient_evaluations",
)


@dataclass(frozen=True)
class Trained:
    """What a run gave.

    Attributes
    ----------
    history : list of dict
        A row for each evaluated round, round 0 included: iteration, round, loss,
        accuracy and the counts so far.
    totals : dict
        What ran, the last counts, the final loss and accuracy (None if the run
        diverged) and the seconds.
    """

    history: list[Row]
    totals: Row


def task_of(run: Run, data_dir: Path | None = None) -> Task:
    """Return the task of a run; its seed spreads the data. The last one is kept."""
    return _task(run.dataset, run.workers, run.partition, run.batch, run.seed, data_dir)


@lru_cache(maxsize=1)
def _task(
    dataset: str, workers: int, partition: str, batch: Batch, seed: int,
    data_dir: Path | None,
) -> Task:  # fmt: skip
    return build_task(dataset, workers, partition, batch, seed=seed, data_dir=data_dir)


def check(run: Run, task: Task) -> None:
    """Refuse what does not fit the task before any run.

    Raises
    ------
    ValueError
        For a rule that cannot run, or a k above the model's size.
    """
    for oracle in task.oracles:
        wrap(oracle, run)
    settings = _config(run, task).settings
    codecs = assigned_codecs(settings.codec)
    settings.memory_object.check_size(codecs, task.size)


def _config(run: Run, task: Task) -> LasgConfig:
    """Return what the engine is told of a run."""
    memory, codec = run.memory_and_codec
    uneven = run.partition.startswith(("dirichlet", "natural"))
    return LasgConfig(
        build_rule(run.method, run, task.oracles),
        codec,
        memory=memory,
        step=wrap(task.oracles[0], run)[1],
        seed=run.seed,
        weights="examples" if uneven else "equal",
        downlink=run.downlink,
    )


def train(run: Run, task: Task, progress: Progress = lambda: None) -> Trained:
    """Carry out a run on its task; one that diverges ends early.

    `progress` is called after every round.
    """
    memory, codec = run.memory_and_codec
    oracles = [wrap(oracle, run)[0] for oracle in task.oracles]
    config, buffers = _config(run, task), task.start_buffers()
    history: list[Row] = []

    def evaluate(server: LasgServer) -> None:
        task.load_buffers(server.buffers)
        row = {
            "iteration": server.round * run.steps,
            "round": server.round,
            "loss": task.loss(server.theta),
            "accuracy": task.accuracy(server.theta),
        }
        history.append(row | {n: getattr(server.ledger, n) for n in COUNTS})

    def after_round(server: LasgServer, report: RoundReport) -> bool:
        due = server.round % run.evaluate_rounds == 0
        if due or server.round == run.rounds:
            evaluate(server)
        progress()
        return due and run.stop_at is not None and history[-1]["loss"] <= run.stop_at

    theta = task.start()
    evaluate(LasgServer(theta, config, buffers=buffers))
    start, diverged = time.perf_counter(), False
    try:
        simulate(
            oracles,
            theta,
            rounds=run.rounds,
            config=config,
            buffers=buffers,
            callback=after_round,
        )
    except LasgError:
        diverged = True
    last = history[-1]
    totals = {
        "method": run.method,
        "codec": codec,
        "memory": memory,
        "local_steps": run.steps,
        "downlink": run.downlink,
        **{name: last[name] for name in COUNTS},
        "final_loss": None if diverged else last["loss"],
        "final_accuracy": None if diverged else last["accuracy"],
        "seconds": time.perf_counter() - start,
    }
    return Trained(history, totals)


def to_target(history: list[Row], target: float | None) -> Row:
    """Return rounds, uploads and bytes to the target; None if it was not reached.

    Bytes of both directions together are among them where the history has them.
    """
    reached = target is not None and next(
        (row for row in history if row["loss"] <= target), None
    )
    row, both = reached or {}, "total_bytes" in history[0]
    return {
        "rounds_to_target": row.get("round"),
        "uploads_to_target": row.get("uploads"),
        "uplink_bytes_to_target": row.get("uplink_bytes"),
        **({"total_bytes_to_target": row.get("total_bytes")} if both else {}),
    }
