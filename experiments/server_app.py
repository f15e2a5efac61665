"""The ServerApp of ``flwr run .``: any method, chosen by the run config."""

import json
import time
from dataclasses import dataclass
from logging import INFO
from pathlib import Path
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, Context, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid, ServerApp

from lasg_flwr.config import MemoryName, ServerMemoryName
from lasg_flwr.strategies import LasgResult, LasgStrategy
from lasg_flwr.strategies.nodes import wait_for_nodes

from .app_task import build_rule, methods, run_of, server_task
from .tasks import Task

app = ServerApp()


@dataclass(frozen=True)
class _Trained:
    result: LasgResult
    seconds: list[float]


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train with each method in turn, evaluate on the server, report the ledger."""
    config, names = context.run_config, methods(context)
    workers = len(wait_for_nodes(grid.get_node_ids, int(config["min-nodes"])))
    task = server_task(context, workers)
    results = {name: _train(name, grid, context, task) for name in names}
    for method, trained in results.items():
        result, ledger = trained.result, trained.result.ledger
        log(
            INFO,
            "%s: %d uploads; up: %d of dense SGD's %d payload bytes, in %d message "
            "bytes; %s",
            method,
            ledger.uploads,
            ledger.uplink_bytes,
            ledger.sgd_uplink_bytes,
            ledger.uplink_message_bytes,
            result.evaluate_metrics_serverapp[max(result.evaluate_metrics_serverapp)],
        )
    if path := str(config["result-file"]):
        rows = {method: _row(trained) for method, trained in results.items()}
        Path(path).write_text(json.dumps(rows) + "\n")


def _train(method: str, grid: Grid, context: Context, task: Task) -> _Trained:
    config = context.run_config
    run = run_of(context)
    workers = len(task.oracles)
    strategy = LasgStrategy(
        rule=build_rule(method, run, task.oracles),
        codec=str(config["codec"]),
        memory=cast(MemoryName, config["memory"]),
        server_memory=cast(ServerMemoryName, config["server-memory"]),
        downlink=str(config["downlink"]),
        step=run.learning_rate,
        seed=run.seed,
        fraction_evaluate=0.0,
        min_train_nodes=workers,
        min_available_nodes=workers,
        round_seconds=float(config["round-seconds"]) or None,
        checkpoint_dir=_checkpoint_dir(method, str(config["checkpoint-dir"])),
    )
    every = int(config["evaluate-every"])
    rounds = int(config["num-server-rounds"])

    finished: list[float] = []

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        finished.append(time.perf_counter())
        if server_round % every and server_round != rounds:
            return None
        theta = arrays["theta"].numpy()
        metrics = MetricRecord()
        metrics["loss"], metrics["accuracy"] = task.loss(theta), task.accuracy(theta)
        return metrics

    start = ArrayRecord({"theta": Array(task.start())})
    result = strategy.start(grid, start, num_rounds=rounds, evaluate_fn=evaluate)
    return _Trained(result, list(np.diff(finished)))


def _checkpoint_dir(method: str, folder: str) -> Path | None:
    return Path(folder) / method if folder else None


def _row(trained: _Trained) -> dict[str, Any]:
    """Return the last θ, every float exact, the ledger, and each round's seconds."""
    return {
        "theta": trained.result.arrays["theta"].numpy().tolist(),
        "ledger": trained.result.ledger.as_dict(),
        "seconds": trained.seconds,
    }
