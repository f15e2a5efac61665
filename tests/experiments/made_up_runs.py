"""Made-up runs of a comparison, for tests of its figures and its table."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from experiments.compare import Compared, gather, plan
from experiments.run import Run
from experiments.training import Trained

Row = dict[str, Any]
TARGET = 0.35
SIX = ("sgd", "lag", "wk1", "wk2", "ps", "pse")
BASE = Run("digits", "dirichlet:0.1", iterations=1500, evaluate_every=25, seed=1,
           max_delay=50, c=0.6, batch_size=32)  # fmt: skip
# method: share of uploads per round, final loss, gradients per worker and round
BEHAVIOUR = {
    "sgd": (1.0, 0.272, 1),
    "lag": (0.78, 0.276, 1),
    "wk1": (0.34, 0.281, 2),
    "wk2": (0.093, 0.279, 2),
    "ps": (0.088, 0.280, 1),
    "pse": (0.15, 0.275, 1),
    "vr": (0.12, 0.27, 2),
    "local-sgd": (0.1, 0.29, 1),
    "fedprox": (0.1, 0.3, 1),
    "sparse-local-sgd": (0.1, 0.33, 1),
}
BYTES = {"dense": 31_400, "qsgd": 7_866, "topk": 2_520}


def made_up(run: Run) -> Trained:
    """Return what a run might have given."""
    share, floor, gradients = BEHAVIOUR[run.method]
    # WK2 and PS share a seed: their curves nearly coincide, as they do in truth
    seed = 0 if run.method in ("wk2", "ps") else len(run.method)
    rng = np.random.default_rng([seed, 7])
    _, codec = run.memory_and_codec
    size = BYTES[codec.partition(":")[0]]
    rows = []
    for k in range(0, run.rounds + 1, run.evaluate_rounds):
        decay = 0.5 * math.exp(-k / 40) + 0.5 * math.exp(-k / 260)
        loss = floor + (math.log(10) - floor) * decay
        uploads = round(run.workers * min(k, 3 + share * max(k - 3, 0)))
        rows.append(
            {
                "round": k,
                "loss": loss * (1 + 0.015 * rng.standard_normal() * bool(k)),
                "accuracy": 0.1 + 0.82 * (1 - decay),
                "uploads": uploads,
                "downloads": k * run.workers,
                "uplink_bytes": uploads * size,
                "downlink_bytes": k * run.workers * BYTES["dense"],
                "gradient_evaluations": k * run.workers * gradients,
            }
        )
    totals = {**rows[-1], "method": run.method, "codec": codec, "memory": run.memory,
              "local_steps": run.steps, "downlink": run.downlink,
              "seconds": 12.34}  # fmt: skip
    for name in ("loss", "accuracy"):
        totals[f"final_{name}"] = totals.pop(name)
    return Trained(rows, totals)


def compared(*runs: Run, target: float | None = TARGET) -> Compared:
    """Return made-up runs as a comparison gives them."""
    task = cast(Any, SimpleNamespace(l2=1e-5, notes={}))
    return gather(runs, [made_up(run) for run in runs], task, target)


def of(*methods: str, **options: Any) -> Compared:
    """Return a dense run of each method; of all six without a name."""
    return compared(*plan(BASE, methods or SIX, ["dense"]), **options)


def named(method: str, **changes: Any) -> Run:
    """Return a run of a method."""
    return replace(BASE, method=method, **changes)


def everything() -> Compared:
    """Return all methods, and two with long names."""
    long = named("wk2", codec="qsgd:bits=8", memory="gradient")
    sparse = named("sparse-local-sgd", codec="topk:k=9")
    return compared(*plan(BASE, list(BEHAVIOUR), ["dense"]), long, sparse)
