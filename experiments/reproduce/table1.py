"""Table I measured: communication, computation and memory as M and p grow."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lasg_flwr import LasgServer, simulate
from lasg_flwr.config import ServerMemoryName
from lasg_flwr.protocol.rounds import RoundReport

from .. import tables
from ..methods import build_rule
from ..plots import studies
from ..run import Run
from ..tables import Row
from ..tasks import LogisticOracle
from . import captions
from .store import Result, Store
from .study import Study

EXAMPLES, BATCH = 50, 5
MEMORIES: tuple[ServerMemoryName, ...] = ("per-worker", "sum-only")
PAPER = {
    "sgd": ("always", "always", "O(p)", "none"),
    "wk1": ("always", "if m in M^k", "O(p)", "O(p)"),
    "wk2": ("always", "if m in M^k", "O(p)", "O(p)"),
    "ps": ("if m in M^k", "if m in M^k", "O(Mp)", "O(p)"),
    "pse": ("if m in M^k", "if m in M^k", "O(Mp)", "O(p)"),
}
"""Download, upload, memory at the server and at a worker, as Table I has them."""


@dataclass(frozen=True)
class Case:
    """One algorithm with M workers and p parameters."""

    method: str
    workers: int
    size: int
    server_memory: ServerMemoryName


def cases(study: Study) -> list[Case]:
    """Return all combinations of the options."""
    o = study.options
    return [
        Case(method, workers, size, memory)
        for memory in MEMORIES
        for method in o["methods"]
        for workers in o["workers"]
        for size in o["sizes"]
    ]


def planned(study: Study) -> int:
    """Return how many results are needed."""
    return len(cases(study))


def produce(study: Study, store: Store, out: Path) -> list[Path]:
    """Write ``table1.csv`` and ``table1.png``."""
    rows: list[Row] = []
    for case in cases(study):
        spec = {"kind": "table1", "options": study.options, "case": vars(case)}
        name = f"{case.method} M={case.workers} p={case.size} {case.server_memory}"
        measured = store.get(spec, name, partial(measure, case, study.options))
        down, up, server, worker = PAPER[case.method]
        paper = {"paper_download": down, "paper_upload": up}
        paper |= {"paper_server_memory": server, "paper_worker_memory": worker}
        rows.append({**vars(case), **measured, **paper})
    tables.write(out / "table1.csv", rows)
    o = study.options
    caption = (
        f"{captions.of(study)} Synthetic logistic regression, p = {max(o['sizes'])}, "
        f"{o['rounds']} rounds, η = {o['learning_rate']}, D = {o['max_delay']}, "
        f"d_max = {o['d_max']}, c = 1/η². The paper: O(p) at the server but O(Mp) for "
        "PS and PSE; O(p) at a worker."
    )
    title = f"{study.title}: memory and uploads"
    studies.table1(title, caption, o, rows, out / "table1.png")
    return [out / "table1.csv", out / "table1.png"]


def measure(case: Case, options: Any) -> Result:
    """Run a case and return what a worker and a round cost on average."""
    oracles = problem(case.workers, case.size)
    names = ("learning_rate", "max_delay", "d_max")
    run = Run(method=case.method, **{name: options[name] for name in names})
    rounds, stored = options["rounds"], [0]

    def watch(server: LasgServer, _: RoundReport) -> None:
        stored[0] = max(stored[0], len(server.iterates))

    result = simulate(
        oracles,
        np.zeros(case.size, np.float32),
        rounds=rounds,
        rule=build_rule(case.method, run, oracles),
        server_memory=case.server_memory,
        step=run.learning_rate,
        callback=watch,
    )
    ledger, each = result.ledger, rounds * case.workers
    own = [count_vectors(w.state, case.size) for w in result.workers]
    return {
        "downloads_per_worker_round": ledger.downloads / each,
        "uploads_per_worker_round": ledger.uploads / each,
        "gradients_per_worker_round": ledger.gradient_evaluations / each,
        "server_gradients": 0,
        "server_vectors": count_vectors(result.server, case.size),
        "of_which_h": sum(
            count_vectors(r, case.size) for r in result.server.roster.records.values()
        ),
        "of_which_iterates": len(result.server.iterates),
        "most_iterates": stored[0],
        "worker_vectors_mean": tables.mean(own),
        "worker_vectors_max": max(own),
    }


def problem(workers: int, size: int) -> list[LogisticOracle]:
    """Return a logistic regression of Gaussian data, 50 examples a worker."""
    rng = np.random.default_rng([workers, size])
    truth = rng.standard_normal(size) / np.sqrt(size)
    oracles = []
    for _ in range(workers):
        x = rng.standard_normal((EXAMPLES, size)).astype(np.float32)
        y = np.where(x @ truth > 0, np.float32(1), np.float32(-1))
        oracles.append(LogisticOracle(x, y, BATCH))
    return oracles


def count_vectors(thing: object, size: int) -> int:
    """Return how many distinct arrays of length p an object holds.

    Examples
    --------
    >>> a = np.zeros(7)
    >>> count_vectors({"x": [a, a], "y": np.zeros(7), "z": np.zeros(2)}, 7)
    2
    """
    return len({id(a) for a in _arrays(thing, set()) if a.size == size})


def _arrays(thing: object, seen: set[int]) -> Iterator[np.ndarray[Any, Any]]:
    """Walk containers and objects of this package."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        yield thing
        return
    for child in _children(thing):
        yield from _arrays(child, seen)


def _children(thing: object) -> list[object]:
    if isinstance(thing, dict):
        return list(thing.values())
    if isinstance(thing, list | tuple | set):
        return list(thing)
    if is_dataclass(thing) and not isinstance(thing, type):
        return [getattr(thing, field.name) for field in fields(thing)]
    if type(thing).__module__.startswith("lasg_flwr"):
        return list(getattr(thing, "__dict__", {}).values())
    return []
