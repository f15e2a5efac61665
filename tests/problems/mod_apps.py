"""What the apps behind `lasg_mod` in the tests have in common."""

from collections.abc import Callable

import numpy as np
from flwr.app import Context

from lasg_flwr import Oracle
from lasg_flwr.vectors import F32
from tests.problems.least_squares import LeastSquares, least_squares

ORACLES = least_squares(workers=4)
SIZE = ORACLES[0].size


def mine(context: Context) -> LeastSquares:
    return ORACLES[int(context.node_config["partition-id"])]


class Trained(Oracle):
    """An app's training on NumPy's global generator, as the engine's oracle."""

    num_examples = 20

    def __init__(self, train: Callable[[F32], F32]) -> None:
        self.train = train

    def draw(self, rng: np.random.Generator) -> int:
        return int(rng.integers(2**32))

    def gradient(self, theta: F32, batch: int) -> F32:
        np.random.seed(batch)  # noqa: NPY002
        update: F32 = theta - self.train(theta)
        return update
