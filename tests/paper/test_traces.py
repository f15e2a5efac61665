"""The runs that the tests of the paper look into are those of the engine."""

from __future__ import annotations

import numpy as np

from lasg_flwr import simulate
from tests.problems.solved_least_squares import random_least_squares
from tests.problems.traces import LAZY, drive, rule_named


def test_drive_is_the_engine() -> None:
    """`drive` gives the iterates of `simulate` to the bit."""
    problem = random_least_squares(0, workers=3, samples=8, size=4)
    for name in ("sgd", "lag", *LAZY):
        rule = rule_named(name, problem, 5, 10)
        trace = drive(problem, rule, 0.02, 50, start=np.zeros(4), seed=3)
        result = simulate(
            problem.oracles(1),
            np.zeros(4, "f4"),
            rounds=50,
            rule=rule,
            step=0.02,
            seed=3,
        )
        assert (result.theta == trace.thetas[-1]).all()
        assert result.ledger.uploads == trace.uploads
        assert (trace.uploads < 150) is (name != "sgd")
