"""Oracles for sparse local SGD, whose minibatches can have any size."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lasg_flwr.vectors import F32, F64

from .problems import LeastSquares, least_squares


@dataclass(frozen=True)
class Sized(LeastSquares):
    """Least squares with minibatches of any size."""

    def draw_batch(self, rng: np.random.Generator, size: int) -> Any:
        return rng.choice(len(self.y), size, replace=False)


def sized(workers: int, size: int = 6, seed: int = 0) -> list[Sized]:
    return [Sized(o.x, o.y) for o in least_squares(workers, size, seed=seed)]


@dataclass(frozen=True)
class Coarse:
    """Mean of θ − c over the batch, rounded to quarters: float32 holds all sums."""

    centres: F64

    @property
    def num_examples(self) -> int:
        return len(self.centres)

    def draw(self, rng: np.random.Generator) -> Any:
        return self.draw_batch(rng, 2)

    def draw_batch(self, rng: np.random.Generator, size: int) -> Any:
        return rng.choice(len(self.centres), size, replace=False)

    def gradient(self, theta: F32, batch: Any) -> F32:
        exact: F64 = theta - self.centres[batch].mean(axis=0)
        return np.asarray(np.round(4 * exact) / 4, np.float32)


def coarse(workers: int, size: int, seed: int) -> list[Coarse]:
    rng = np.random.default_rng(seed)
    return [Coarse(rng.normal(m, 3, size=(20, size))) for m in range(workers)]
