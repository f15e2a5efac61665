"""A Flower app with as many parameters as wished: a quadratic for each worker."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.client import Client
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from lasg_flwr import Oracle
from lasg_flwr.clients import LasgNumPyClient
from lasg_flwr.strategies import LasgStrategy

server = ServerApp()


class Quadratic(Oracle):
    """½‖θ − c‖² with a random c."""

    num_examples = 1

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def draw(self, rng: np.random.Generator) -> Any:
        return rng.integers(1000)

    def gradient(self, theta: Any, batch: Any) -> Any:
        centre = np.random.default_rng(self.seed).standard_normal(theta.size, "f4")
        return theta - centre


def client_fn(context: Context) -> Client:
    oracle = Quadratic(int(context.node_config["partition-id"]))
    return LasgNumPyClient(oracle, context).to_client()


client = ClientApp(client_fn=client_fn)


@server.main()
def main(grid: Grid, context: Context) -> None:
    config: dict[str, Any] = dict(context.run_config)
    start = ArrayRecord({"theta": Array(np.zeros(int(config["size"]), "f4"))})
    strategy = LasgStrategy(
        *(config["rule"], config["codec"]),
        memory=config["memory"],
        downlink=config["downlink"],
        step=0.5,
        fraction_evaluate=0.0,
        min_train_nodes=3,
        min_available_nodes=3,
    )
    times = []

    def look(round_: int, arrays: ArrayRecord) -> None:
        times.append(time.perf_counter())

    result = strategy.start(grid, start, int(config["rounds"]), evaluate_fn=look)
    records = strategy.server.roster.sorted()
    out = {
        "ledger": result.ledger.as_dict(),
        "ids": {r.key: None if r.id is None else r.id.hex() for r in records},
        "seconds": list(np.diff(times)),
    }
    Path(config["result"]).write_text(json.dumps(out))
