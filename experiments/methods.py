"""How a run becomes a rule, oracles and a server step."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lasg_flwr.optim import SGD, ServerStep
from lasg_flwr.oracles.base import Oracle
from lasg_flwr.oracles.batches import ScheduledBatches
from lasg_flwr.oracles.local import LocalSteps
from lasg_flwr.rules import Rule
from lasg_flwr.rules.smoothness import local_steps_smoothness

from .run import SPARSE, Run

NO_SMOOTHNESS = (
    "ps needs the smoothness L_m of every worker, which is known for linear models "
    "only: leave ps out of --methods; pse estimates it"
)


def build_rule(method: str, run: Run, oracles: Sequence[Oracle]) -> Rule[Any]:
    """Return the rule of `method`, all else as in `run`, with the L_m that PS needs.

    Raises
    ------
    ValueError
        For PS where an oracle does not know its smoothness.
    """
    run = replace(run, method=method)
    if method != "ps":
        return run.rule()
    return run.rule(tuple(_smoothness(oracle, run) for oracle in oracles))


def wrap(oracle: Oracle, run: Run) -> tuple[Oracle, ServerStep[Any]]:
    """Return the oracle that a worker runs, and the server's step for it."""
    if not run.is_local:
        return oracle, SGD(run.step_sizes)
    inner = _grown(oracle, run) if run.method == SPARSE else oracle
    proximal = run.proximal if run.method == "fedprox" else 0.0
    local = LocalSteps(inner, run.steps, run.step_sizes, proximal=proximal)
    return local, SGD(1.0)


def _grown(oracle: Oracle, run: Run) -> Oracle:
    if run.initial_batch is None and run.batch_growth == 1.0:
        return oracle
    return ScheduledBatches(oracle, run.batches(getattr(oracle, "batch_size", 1)))


def _smoothness(oracle: Oracle, run: Run) -> float:
    if not hasattr(oracle, "smoothness"):
        raise ValueError(NO_SMOOTHNESS)
    value: float = oracle.smoothness()
    if run.local_steps == 1:
        return value
    return local_steps_smoothness(value, run.learning_rate, run.local_steps)
