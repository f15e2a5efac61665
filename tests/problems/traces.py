"""The two state machines, driven as the engine drives them, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np

from lasg_flwr import LasgWorker
from lasg_flwr.optim import ServerStep
from lasg_flwr.rules import LAG, PS, PSE, WK1, WK2, Always, Rule
from lasg_flwr.vectors import F64
from tests.problems.servers import server_for
from tests.problems.solved_least_squares import SolvedLeastSquares

LAZY = ("wk1", "wk2", "ps", "pse")


def rule_named(
    name: str, problem: SolvedLeastSquares, d_max: int, max_delay: int, c: float = 1.0
) -> Rule[Any]:
    if name == "ps":
        return PS(c, d_max, max_delay, smoothness=problem.local_smoothness)
    kinds = {"sgd": Always, "lag": LAG, "wk1": WK1, "wk2": WK2, "pse": PSE}
    return kinds[name](c, d_max, max_delay)


@dataclass
class Trace:
    """A run, round by round.

    Attributes
    ----------
    thetas : ndarray, shape (K + 1, p)
        θ^0 ... θ^K, in float64.
    used : ndarray, shape (K, M)
        The round of the gradient of each worker that step k used.
    thresholds : ndarray, shape (K,)
        T^k.
    lhs : list of (int, int, float)
        (k, m, left-hand side), where a worker's rule was evaluated.
    steps : list of ndarray, shape (p,)
        The aggregated ∇^k of each round.
    uploads : int
        How many there were.
    """

    thetas: F64
    used: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    thresholds: F64
    lhs: list[tuple[int, int, float]]
    steps: list[F64]
    uploads: int


def drive(
    problem: SolvedLeastSquares,
    rule: Rule[Any],
    step: float | ServerStep[Any],
    rounds: int,
    *,
    start: F64,
    seed: int = 0,
    batch_size: int = 1,
) -> Trace:
    """Run the two state machines, as the engine does, and keep what they say."""
    workers = [LasgWorker(o, m) for m, o in enumerate(problem.oracles(batch_size))]
    server = server_for(start.astype(np.float32), rule, step=step, seed=seed)
    for m, worker in enumerate(workers):
        server.introduce(m, m, worker.oracle.num_examples)
    trace = Trace(
        np.empty((rounds + 1, problem.size)),
        np.empty((rounds, problem.workers), np.int64),
        np.empty(rounds),
        [],
        [],
        0,
    )
    trace.thetas[0] = server.theta
    for k in range(rounds):
        for node, request in server.open_round(range(len(workers))):
            reply = workers[node].handle(request)
            assert reply is not None
            if not isnan(reply.lhs):
                trace.lhs.append((k, node, reply.lhs))
            assert server.receive(node, reply).kept
        trace.thresholds[k] = server.close_round().threshold
        trace.thetas[k + 1] = server.theta
        trace.used[k] = [server.roster.records[m].round for m in range(len(workers))]
        trace.steps.append(server.sum.mean())
    trace.uploads = server.ledger.uploads
    return trace
