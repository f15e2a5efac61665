"""``python -m experiments benchmarks``: speed and memory, side by side in one run."""

import json
import os
import platform
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from lasg_flwr import LasgConfig, simulate
from lasg_flwr.config import ServerMemoryName
from lasg_flwr.oracles.base import Oracle
from lasg_flwr.protocol import LasgWorker
from lasg_flwr.protocol.server import LasgServer
from lasg_flwr.random import KeyedGenerators, keyed_generator
from lasg_flwr.vectors import F32

from .benchmark_codecs import codecs
from .benchmark_rate import rate
from .benchmark_scale import scale
from .flower_run import flwr_run
from .output import show, write_json
from .tasks import Batch, Task, build_task

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command()(codecs)
app.command()(rate)
app.command()(scale)
if find_spec("torch") is not None:
    from .benchmark_networks import networks

    app.command()(networks)
ETA, SEED = 0.1, 0
MAX_DELAY, D_MAX = 100, 10


@app.callback()
def main() -> None:
    """Benchmarks of lasg-flwr."""


@app.command()
def engine(
    rounds: Annotated[int, typer.Option(min=10)] = 1000,
    repeats: Annotated[int, typer.Option(min=1)] = 7,
    ray_rounds: Annotated[int, typer.Option(help="0: leave Ray out")] = 50,
    data_dir: Annotated[Path | None, typer.Option()] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Time the engine beside a plain loop and Flower's Ray; size of the server."""
    task = build_task("mnist35", 10, "iid", Batch(fraction=0.01), data_dir=data_dir)
    found: dict[str, Any] = {"machine": machine()}
    found["engine"] = engine_against_loop(task, rounds, repeats)
    if ray_rounds:
        per_round = found["engine"]["engine_ms_per_round"]
        found["ray"] = ray_against_engine(ray_rounds, per_round, data_dir)
    found["memory"] = [
        server_memory(kind, workers)
        for kind in ("sum-only", "per-worker")
        for workers in (10, 100, 1000)
    ]
    ratios = dict(found["engine"])
    for name in ("ratio", "ratio_to_rekeyed"):
        ratios[name] = "{median:.2f} ({min:.2f}-{max:.2f})".format(
            **found["engine"][name]
        )
    ratios |= found.get("ray", {})
    title = "mnist35, LASG-WK2, M = 10: engine, plain NumPy loop, flwr run (Ray)"
    show(title, [{"what": name, "found": value} for name, value in ratios.items()])
    show("memory of the server", found["memory"])
    write_json(json_file, found)


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "flwr": version("flwr"),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }


def plain_loop(
    oracles: Sequence[Oracle], size: int, rounds: int, rekeyed: bool = False
) -> F32:
    """Run LASG-WK2 as one would write it in NumPy, without the protocol.

    It draws the same batches from generators seeded the same way: a new one for each
    draw, or with `rekeyed` one for each worker, keyed anew, as the engine does.
    """
    streams = [KeyedGenerators(SEED, m) for m in range(len(oracles))]
    theta = np.zeros(size, np.float32)
    held: list[F32] = [theta] * len(oracles)
    points: list[F32 | None] = [None] * len(oracles)
    uploaded = [0] * len(oracles)
    total = np.zeros(size)
    squares: list[float] = []
    for k in range(rounds):
        threshold = 1 / ETA**2 / D_MAX * sum(squares[-D_MAX:])
        for m, oracle in enumerate(oracles):
            rng = streams[m].at(k) if rekeyed else keyed_generator(SEED, m, k)
            batch = oracle.draw(rng)
            gradient = oracle.gradient(theta, batch)
            point = points[m]
            if point is not None and k - uploaded[m] < MAX_DELAY:
                change = (gradient - oracle.gradient(point, batch)).astype(np.float64)
                if change @ change <= threshold:
                    continue
            total += gradient.astype(np.float64) - held[m]
            held[m], points[m], uploaded[m] = gradient, theta, k
        new = (theta - ETA * (total / len(oracles))).astype(np.float32)
        step = (new - theta).astype(np.float64)
        squares.append(float(step @ step))
        theta = new
    return theta


def engine_against_loop(task: Task, rounds: int, repeats: int) -> dict[str, Any]:
    """Time the engine and the plain loop in turn."""
    oracles = task.oracles

    def run_engine() -> F32:
        theta = np.zeros(task.size)
        return simulate(oracles, theta, rounds=rounds, rule="wk2", step=ETA).theta

    def run_loop(rekeyed: bool = False) -> F32:
        return plain_loop(oracles, task.size, rounds, rekeyed)

    same = [run_engine().tobytes() == run_loop(r).tobytes() for r in (False, True)]
    timed = [
        (_seconds(run_engine), _seconds(run_loop), _seconds(lambda: run_loop(True)))
        for _ in range(repeats)
    ]
    engine_s, loop_s, rekeyed_s = zip(*timed, strict=True)
    return {
        "rounds": rounds,
        "repeats": repeats,
        "same_theta_to_the_bit": all(same),
        "engine_ms_per_round": 1e3 * median(engine_s) / rounds,
        "loop_ms_per_round": 1e3 * median(loop_s) / rounds,
        "rekeyed_loop_ms_per_round": 1e3 * median(rekeyed_s) / rounds,
        "ratio": _spread([e / p for e, p in zip(engine_s, loop_s, strict=True)]),
        "ratio_to_rekeyed": _spread(
            [e / p for e, p in zip(engine_s, rekeyed_s, strict=True)]
        ),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def ray_against_engine(
    rounds: int, engine_ms: float, data_dir: Path | None
) -> dict[str, Any]:
    """Time a round of the same app under ``flwr run`` with Ray, its start left out."""
    root = Path(__file__).parent.parent
    if data_dir is not None:
        os.environ["LASG_DATA"] = str(data_dir)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        config = (
            f'dataset="mnist35" batch-size=12 num-server-rounds={rounds} min-nodes=10 '
            f'evaluate-every={rounds} method="wk2" result-file="{result}"'
        )
        start = time.perf_counter()
        done = flwr_run(root, config, supernodes=10)
        whole = time.perf_counter() - start
        if not result.exists():
            sys.exit(f"flwr run failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        seconds = json.loads(result.read_text())["wk2"]["seconds"]
    middle = 1e3 * median(seconds[1:-1])
    return {
        "rounds": rounds,
        "whole_run_seconds": whole,
        "ray_ms_per_round": middle,
        "ratio_to_engine": middle / engine_ms,
    }


class _Pull(Oracle):
    """A cheap oracle of any length: pulls θ towards its own constant."""

    num_examples = 1

    def __init__(self, centre: float) -> None:
        self.centre = np.float32(centre)

    def draw(self, rng: np.random.Generator) -> None:
        return None

    def gradient(self, theta: F32, batch: None) -> F32:
        gradient: F32 = theta - self.centre
        return gradient


def server_memory(
    kind: ServerMemoryName, workers: int, size: int = 100_000, rounds: int = 2
) -> dict[str, Any]:
    """Measure what a server holds after its rounds, and at most during them.

    Every worker is made, answers in full and is thrown away, so that little but the
    server counts; replies come in key order, as from the engine.
    """
    theta = np.zeros(size, np.float32)
    tracemalloc.start()
    server = LasgServer(theta, LasgConfig("sgd", server_memory=kind, step=ETA))
    for m in range(workers):
        server.introduce(m, m)
    for _ in range(rounds):
        for node, request in server.open_round(range(workers)):
            reply = LasgWorker(_Pull(node), node).handle(request)
            if reply is None or not server.receive(node, reply).kept:
                raise RuntimeError(f"the reply of worker {node} was not kept")
        server.close_round()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "server_memory": kind,
        "workers": workers,
        "size": size,
        "held_bytes": held,
        "peak_bytes": peak,
    }
