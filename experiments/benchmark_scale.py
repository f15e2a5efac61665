"""``python -m experiments benchmarks scale``: many workers, and long vectors."""

import os
import platform
import time
import tracemalloc
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import Client
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from lasg_flwr import LasgConfig
from lasg_flwr.clients import LasgNumPyClient
from lasg_flwr.config import ServerMemoryName
from lasg_flwr.oracles.base import Oracle
from lasg_flwr.protocol import LasgServer, LasgWorker
from lasg_flwr.strategies import LasgStrategy
from lasg_flwr.vectors import F32

from .inprocess import InProcessGrid
from .output import show, write_json

ETA = 0.1
COPIED = 1_000_000
"""Coordinates of the vector whose copies are counted."""


class Pull(Oracle):
    """A cheap oracle of any length: pulls θ towards its own constant."""

    num_examples = 1

    def __init__(self, centre: float) -> None:
        self.centre = np.float32(centre)

    def draw(self, rng: np.random.Generator) -> None:
        """Draw nothing."""

    def gradient(self, theta: F32, batch: None) -> F32:
        """Return θ − c."""
        gradient: F32 = theta - self.centre
        return gradient


def engine_round(
    workers: int, size: int, rounds: int, server_memory: ServerMemoryName = "per-worker"
) -> dict[str, Any]:
    """Time the parts of a round in which everybody uploads, the first left out."""
    config = LasgConfig("sgd", step=ETA, server_memory=server_memory)
    server = LasgServer(np.zeros(size, np.float32), config)
    machines = [LasgWorker(Pull(m), m) for m in range(workers)]
    for m in range(workers):
        server.introduce(m, m)
    parts: dict[str, list[float]] = {
        n: [] for n in ("open", "worker", "receive", "close")
    }
    for _ in range(rounds + 1):
        spent = dict.fromkeys(parts, 0.0)
        requests = _timed(spent, "open", lambda: server.open_round(range(workers)))
        for node, request in requests:
            reply = _timed(spent, "worker", machines[node].handle, request)
            if not _timed(spent, "receive", server.receive, node, reply).kept:
                raise RuntimeError(f"the reply of worker {node} was not kept")
        _timed(spent, "close", server.close_round)
        for name, seconds in spent.items():
            parts[name].append(1e3 * seconds)
    middle = {f"{name}_ms": median(values[1:]) for name, values in parts.items()}
    each = 1e3 * (sum(middle.values()) - middle["worker_ms"]) / workers
    return {
        "where": f"engine, {server_memory}",
        "workers": workers,
        "size": size,
        "ms": sum(middle.values()),
        **middle,
        "server_us_per_worker": each,
    }


def _timed(
    spent: dict[str, float], part: str, call: Callable[..., Any], *args: Any
) -> Any:
    start = time.perf_counter()
    found = call(*args)
    spent[part] += time.perf_counter() - start
    return found


def engine_memory(
    workers: int, size: int, server_memory: ServerMemoryName
) -> dict[str, Any]:
    """Return what a server holds after two rounds, in vectors of 4p bytes."""
    tracemalloc.start()
    config = LasgConfig("sgd", step=ETA, server_memory=server_memory)
    server = LasgServer(np.zeros(size, np.float32), config)
    for m in range(workers):
        server.introduce(m, m)
    for _ in range(2):
        for node, request in server.open_round(range(workers)):
            reply = LasgWorker(Pull(node), node).handle(request)
            if reply is not None:
                server.receive(node, reply)
        server.close_round()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "server_memory": server_memory,
        "workers": workers,
        "size": size,
        "held_vectors": held / (4 * size),
        "peak_vectors": peak / (4 * size),
    }


def copies(codec: str) -> dict[str, Any]:
    """Count what one upload allocates at most, in vectors, at either side.

    It is the last of three uploads of a round: the sums that a round needs once, and
    what stays allocated from before, are not counted.
    """
    server = LasgServer(
        np.zeros(COPIED, np.float32), LasgConfig("sgd", codec, step=ETA)
    )
    workers = [LasgWorker(_Noise(), m) for m in range(3)]
    for m in range(3):
        server.introduce(m, m)
    found = {}
    for _ in range(2):
        for node, request in server.open_round(range(3)):
            tracemalloc.start()
            reply = workers[node].handle(request)
            found["worker"] = tracemalloc.get_traced_memory()[1] / (4 * COPIED)
            tracemalloc.stop()
            tracemalloc.start()
            if reply is None or not server.receive(node, reply).kept:
                raise RuntimeError("the upload was not kept")
            found["server"] = tracemalloc.get_traced_memory()[1] / (4 * COPIED)
            tracemalloc.stop()
        server.close_round()
    return {"codec": codec, **{f"{side}_vectors": v for side, v in found.items()}}


class _Noise(Oracle):
    """Gradients that no codec can make short."""

    num_examples = 1

    def draw(self, rng: np.random.Generator) -> F32:
        return rng.standard_normal(COPIED, np.float32)

    def gradient(self, theta: F32, batch: F32) -> F32:
        return batch


class QuietGrid(InProcessGrid):
    """Keeps no messages; nodes in `failing` raise."""

    def __init__(self, app: Any, nodes: int, failing: Sequence[int] = ()) -> None:
        super().__init__(self._answer, nodes)
        self._app = app
        self._failing = set(failing)

    def _answer(self, message: Message, context: Context) -> Message:
        self.requests.clear()
        self.replies.clear()
        if context.node_config["partition-id"] in self._failing:
            raise RuntimeError("this node fails")
        answer: Message = self._app(message, context)
        return answer


def lazy_app() -> ClientApp:
    """Return an app of lazy clients."""

    def client_fn(context: Context) -> Client:
        oracle = Pull(float(context.node_config["partition-id"]))
        return LasgNumPyClient(oracle, context).to_client()

    return ClientApp(client_fn=client_fn)


def plain_app() -> ClientApp:
    """Return an app of FedAvg's that takes the same step."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        theta = message.content.array_records["arrays"]["w"].numpy()
        centre = np.float32(context.node_config["partition-id"])
        new = theta - np.float32(ETA) * (theta - centre)
        content = RecordDict({"arrays": ArrayRecord({"w": Array(new)})})
        content["metrics"] = MetricRecord({"num-examples": 1})
        return Message(content, reply_to=message)

    return app


def grid_round(
    make: Callable[[], Any],
    app: ClientApp,
    workers: int,
    size: int,
    rounds: int,
    failing: Sequence[int] = (),
) -> float:
    """Return milliseconds a round through the in-process Grid, the first left out."""
    seconds: list[float] = []

    def note(server_round: int, arrays: ArrayRecord) -> None:
        seconds.append(time.perf_counter())

    arrays = ArrayRecord({"w": Array(np.zeros(size, np.float32))})
    grid = QuietGrid(app, workers, failing)
    make().start(grid, arrays, rounds + 1, evaluate_fn=note)
    steps = np.diff(seconds[1:])
    return 1e3 * float(median(steps.tolist()))


def lasg() -> LasgStrategy:
    """Return a strategy under which everybody uploads."""
    return LasgStrategy("sgd", step=ETA, fraction_evaluate=0.0)


def fedavg() -> FedAvg:
    """Return Flower's own."""
    return FedAvg(fraction_evaluate=0.0)


def grid_peak(make: Callable[[], Any], app: ClientApp, size: int) -> float:
    """Return the most memory of two rounds with ten clients, in vectors."""
    tracemalloc.start()
    arrays = ArrayRecord({"w": Array(np.zeros(size, np.float32))})
    make().start(QuietGrid(app, 10), arrays, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / (4 * size)


def beside_fedavg(size: int, repeats: int) -> dict[str, Any]:
    """Time `LasgStrategy` and `FedAvg` in turn with ten clients, dense."""
    both = {"lasg": (lasg, lazy_app()), "fedavg": (fedavg, plain_app())}
    times: dict[str, list[float]] = {name: [] for name in both}
    for _ in range(repeats):
        for name, (make, app) in both.items():
            times[name].append(grid_round(make, app, 10, size, 3))
    peaks = {name: grid_peak(*pair, size) for name, pair in both.items()}
    ratios = [a / b for a, b in zip(times["lasg"], times["fedavg"], strict=True)]
    return {
        "size": size,
        "lasg_ms": median(times["lasg"]),
        "fedavg_ms": median(times["fedavg"]),
        "x_time": median(ratios),
        "x_time_least": min(ratios),
        "x_time_most": max(ratios),
        "lasg_peak_vectors": peaks["lasg"],
        "fedavg_peak_vectors": peaks["fedavg"],
        "x_memory": peaks["lasg"] / peaks["fedavg"],
    }


def scale(
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    most_workers: Annotated[int, typer.Option(min=100)] = 10_000,
    largest_size: Annotated[int, typer.Option(min=1000)] = 10_000_000,
    fedavg_size: Annotated[int, typer.Option(min=1000)] = 4_000_000,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Time and memory of a round: M up to 10,000, p up to 1e7; beside FedAvg."""
    counts = [m for m in (100, 1000, 10_000) if m <= most_workers]
    sizes = [p for p in (100_000, 10_000_000) if p <= largest_size]
    engine = [engine_round(m, 10_000, rounds) for m in counts]
    kinds: tuple[ServerMemoryName, ...] = ("per-worker", "sum-only")
    engine += [engine_round(10, p, rounds, kind) for p in sizes for kind in kinds]
    memory = [engine_memory(10, p, kind) for p in sizes for kind in kinds]
    memory += [engine_memory(m, 1000, kind) for m in counts[:2] for kind in kinds]
    uploads = [copies(codec) for codec in ("dense", "ecsq:error=0.3")]
    grid = []
    for m in counts:
        for share in (0.0, 0.1):
            ms = grid_round(
                lasg, lazy_app(), m, 10_000, rounds, failing=range(int(share * m))
            )
            row = {"workers": m, "failing": int(share * m), "size": 10_000, "ms": ms}
            grid.append({**row, "ms_per_worker": ms / m})
    found: dict[str, Any] = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg(),
        "numpy": np.__version__,
        "flwr": version("flwr"),
        "rounds": rounds,
        "engine": engine,
        "memory": memory,
        "copies": uploads,
        "grid": grid,
        "fedavg": beside_fedavg(fedavg_size, repeats),
    }
    show("engine: a round in which everybody uploads", engine)
    show("memory of the server after two rounds", memory)
    show(f"memory that one upload of {COPIED} coordinates takes", uploads)
    show("in-process Grid: a round, some nodes failing", grid)
    show("ten clients, dense, beside FedAvg", [found["fedavg"]])
    write_json(json_file, found)
