"""The plain loops of `lasg_flwr.reference` take the engine's steps to the bit."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from experiments.tasks import Batch, Task, build_task
from lasg_flwr import LasgServer, reference, simulate
from lasg_flwr.protocol.rounds import RoundReport
from tests.problems.real_data import task_or_skip

ROUNDS, ETA = 150, 0.1


@cache
def digits(partition: str) -> Task:
    return build_task("digits", 10, partition, Batch(fraction=0.01))


def engine(task: Task, rule: str, rounds: int) -> tuple[list[bytes], int]:
    path: list[bytes] = []

    def note(server: LasgServer, report: RoundReport) -> None:
        path.append(server.theta.tobytes())

    result = simulate(
        task.oracles,
        np.zeros(task.size),
        rounds=rounds,
        rule=rule,
        step=ETA,
        callback=note,
    )
    return path, result.ledger.uploads


LOOPS: dict[str, Any] = {
    "sgd": (reference.sgd, {}),
    "lag": (reference.lag, {}),
    "wk1": (reference.wk1, {}),
    "wk1:max_delay=12": (reference.wk1, {"max_delay": 12}),
    "wk2": (reference.wk2, {}),
    "wk2:c=0.3,d_max=3,max_delay=7": (
        reference.wk2,
        {"c": 0.3, "d_max": 3, "max_delay": 7},
    ),
    "ps:smoothness=3": (reference.ps, {}, [3.0] * 10),
    "pse": (reference.pse, {}),
    "vr": (reference.vr, {}),
    "vr:c=3,growth=5,n_max=8,max_delay=9,warmup=2": (
        reference.vr,
        {"c": 3.0, "max_delay": 9},
        5.0,
        8.0,
        2,
    ),
    "pse:max_delay=20": (reference.pse, {"max_delay": 20}),
}


@pytest.mark.parametrize("rule", LOOPS)
@pytest.mark.parametrize("partition", ["iid", "by-label"])
def test_the_engine_takes_the_steps_of_the_plain_loop(
    rule: str, partition: str
) -> None:
    task = digits(partition)
    loop, options, *more = LOOPS[rule]
    run = reference.Run(task.oracles, np.zeros(task.size), ROUNDS, ETA, **options)
    thetas, uploads = loop(run, *more)
    path, engine_uploads = engine(task, rule, ROUNDS)
    assert [theta.tobytes() for theta in thetas] == path
    assert uploads == engine_uploads
    assert rule == "sgd" or uploads < ROUNDS * 10


def test_on_mnist_as_well() -> None:
    task = task_or_skip("mnist35", 10, "by-label", Batch(fraction=0.01))
    run = reference.Run(task.oracles, np.zeros(task.size), 60, ETA)
    thetas, uploads = reference.wk2(run)
    path, engine_uploads = engine(task, "wk2", 60)
    assert [theta.tobytes() for theta in thetas] == path
    assert uploads == engine_uploads
