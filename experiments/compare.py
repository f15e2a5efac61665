"""The comparison: methods side by side on one task, by loss, uploads and bytes."""

import csv
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lasg_flwr import LasgError, LasgServer, simulate
from lasg_flwr.cycle import check_kept
from lasg_flwr.rounds import RoundReport
from lasg_flwr.settings import Memory

from .methods import (
    Hyperparameters,
    build_rule,
    local_steps_of,
    memory_and_codec,
    wrap,
)
from .tasks import Batch, Task

TARGET_FACTOR = 1.02
"""The default target is this factor times the final loss of dense SGD."""

Row = dict[str, Any]
Progress = Callable[[], None]


@dataclass(frozen=True)
class Comparison:
    """Everything that defines a comparison.

    Attributes
    ----------
    dataset, partition : str
        The data, and how they are spread.
    methods, codecs : tuple of str
        Each method runs with each codec.
    memory : {"innovation", "gradient"}
        What an upload is relative to.
    workers, rounds, evaluate_every, seed : int
        M, K, how often the loss is evaluated, and the seed.
    batch : Batch
        Minibatch size.
    hyperparameters : Hyperparameters
        η, D, d_max, c and H.
    target : float, optional
        Loss to reach; None is 1.02 x the final loss of dense SGD.
    stop_at : float, optional
        A run ends at the first evaluated loss at or below this.
    """

    dataset: str
    partition: str
    methods: tuple[str, ...]
    codecs: tuple[str, ...]
    memory: Memory
    workers: int
    rounds: int
    evaluate_every: int
    seed: int
    batch: Batch
    hyperparameters: Hyperparameters
    target: float | None = None
    stop_at: float | None = None

    @property
    def is_uneven(self) -> bool:
        """Whether workers hold different numbers of examples, which then weigh."""
        return self.partition.startswith(("dirichlet", "natural"))

    def runs(self) -> list[tuple[str, str]]:
        """Return (method, codec) of every run."""
        return [(m, c) for c in self.codecs for m in self.methods]


@dataclass
class Run:
    """One method with one codec: its evaluated rounds and its totals."""

    history: list[Row]
    totals: Row


def compare(
    config: Comparison, task: Task, progress: Progress = lambda: None
) -> tuple[list[Row], Row]:
    """Run a comparison.

    Parameters
    ----------
    config : Comparison
        What to run.
    task : Task
        The task that `config` names, built.
    progress : callable
        Called after every round of every run.

    Returns
    -------
    history : list of dict
        One row per run and evaluated round, round 0 included.
    summary : dict
        What ``summary.json`` holds.
    """
    check(config, task)
    runs = [run_method(config, task, m, c, progress) for m, c in config.runs()]
    target = config.target if config.target is not None else _default_target(runs)
    for run in runs:
        run.totals.update(to_target(run.history, target))
    return [row for run in runs for row in run.history], summarise(
        config, task, target, runs
    )


def check(config: Comparison, task: Task) -> None:
    """Refuse what does not fit the task before any run.

    Raises
    ------
    ValueError
        For a rule that cannot run, or a k above the model's size.
    """
    for method in config.methods:
        build_rule(method, config.hyperparameters, task.oracles)
        for oracle in task.oracles:
            wrap(oracle, method, config.hyperparameters)
    top_k = config.hyperparameters.top_k
    for method, codec in config.runs():
        memory, spec = memory_and_codec(method, config.memory, codec, top_k)
        if memory == "error":
            check_kept(spec, task.size)


def summarise(
    config: Comparison, task: Task, target: float | None, runs: Sequence[Run]
) -> Row:
    """Return what ``summary.json`` holds."""
    return {
        "dataset": config.dataset,
        "partition": config.partition,
        "workers": config.workers,
        "rounds": config.rounds,
        "seed": config.seed,
        "target_loss": target,
        "parameters": {
            **asdict(config.hyperparameters),
            "proximal": _proximal(config),
            "batch_size": config.batch.size,
            "batch_fraction": config.batch.fraction,
            "l2": task.l2,
            "evaluate_every": config.evaluate_every,
            **task.notes,
        },
        "runs": [run.totals for run in runs],
    }


def _proximal(config: Comparison) -> float | None:
    """Return the μ of fedprox; None where no run uses it."""
    return config.hyperparameters.proximal if "fedprox" in config.methods else None


def run_method(
    config: Comparison, task: Task, method: str, codec: str, progress: Progress
) -> Run:
    """Run one method with one codec; a run that diverges ends early."""
    parameters = config.hyperparameters
    memory, codec = memory_and_codec(method, config.memory, codec, parameters.top_k)
    names = {
        "method": method,
        "codec": codec,
        "memory": memory,
        "local_steps": local_steps_of(method, parameters),
    }
    history: list[Row] = []

    def evaluate(server: LasgServer) -> None:
        task.load_buffers(server.buffers)
        counts = {name: getattr(server.ledger, name) for name in _COUNTS}
        history.append(
            {
                **names,
                "round": server.round,
                "loss": task.loss(server.theta),
                "accuracy": task.accuracy(server.theta),
                **counts,
            }
        )

    def after_round(server: LasgServer, report: RoundReport) -> bool:
        due = server.round % config.evaluate_every == 0
        if due or server.round == config.rounds:
            evaluate(server)
        progress()
        return (
            due and config.stop_at is not None and history[-1]["loss"] <= config.stop_at
        )

    wrapped = [wrap(oracle, method, parameters) for oracle in task.oracles]
    options: dict[str, Any] = {
        "rule": build_rule(method, parameters, task.oracles),
        "codec": codec,
        "memory": memory,
        "step": wrapped[0][1],
        "seed": config.seed,
        "weights": "examples" if config.is_uneven else "equal",
        "buffers": task.start_buffers(),
    }
    theta = task.start()
    evaluate(LasgServer(theta, **options))
    start = time.perf_counter()
    diverged = False
    try:
        simulate(
            [oracle for oracle, _ in wrapped],
            theta,
            rounds=config.rounds,
            callback=after_round,
            **options,
        )
    except LasgError:
        diverged = True
    last = history[-1]
    totals = {
        **names,
        **{name: last[name] for name in _COUNTS},
        "final_loss": None if diverged else last["loss"],
        "final_accuracy": None if diverged else last["accuracy"],
        "seconds": time.perf_counter() - start,
    }
    return Run(history, totals)


_COUNTS = (
    "uploads",
    "downloads",
    "uplink_bytes",
    "downlink_bytes",
    "gradient_evaluations",
)


def _default_target(runs: Sequence[Run]) -> float | None:
    for run in runs:
        dense_sgd = run.totals["method"] == "sgd" and run.totals["codec"] == "dense"
        if dense_sgd and run.totals["final_loss"] is not None:
            return float(TARGET_FACTOR * run.totals["final_loss"])
    return None


def to_target(history: Sequence[Row], target: float | None) -> Row:
    """Return rounds, uploads and uplink bytes to the target; None if not reached."""
    reached = target is not None and next(
        (row for row in history if row["loss"] <= target), None
    )
    row = reached or {}
    return {
        "rounds_to_target": row.get("round"),
        "uploads_to_target": row.get("uploads"),
        "uplink_bytes_to_target": row.get("uplink_bytes"),
    }


def write(history: Sequence[Row], summary: Row, out: Path) -> None:
    """Write ``history.csv`` and ``summary.json`` into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    text = json.dumps(summary, indent=2, allow_nan=False)
    (out / "summary.json").write_text(text + "\n")
