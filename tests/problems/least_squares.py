"""Small learning problems that the tests share."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from lasg_flwr import Oracle
from lasg_flwr.vectors import F32, F64


@dataclass(frozen=True)
class LeastSquares(Oracle):
    """Half the mean squared error on a worker's rows; minibatches of `batch` rows."""

    x: F32
    y: F32
    batch: int = 4

    @property
    def num_examples(self) -> int:
        return len(self.y)

    @property
    def size(self) -> int:
        return int(self.x.shape[1])

    def draw(self, rng: np.random.Generator) -> Any:
        return rng.choice(len(self.y), self.batch, replace=False)

    def gradient(self, theta: F32, batch: Any) -> F32:
        x = self.x[batch]
        gradient: F32 = x.T @ (x @ theta - self.y[batch]) / np.float32(len(batch))
        return gradient

    def evaluate(self, theta: F32) -> tuple[float, int, dict[str, float]]:
        error = self.x @ theta - self.y
        return float(error @ error / 2 / len(error)), len(error), {"bias": 1.0}


def least_squares(
    workers: int = 4, size: int = 6, examples: int = 20, seed: int = 0
) -> list[LeastSquares]:
    """Return one random least-squares oracle for each worker."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=size)
    oracles = []
    for _ in range(workers):
        x = rng.normal(size=(examples, size)).astype(np.float32)
        y = (x @ truth + 0.5 * rng.normal(size=examples)).astype(np.float32)
        oracles.append(LeastSquares(x, y))
    return oracles


@dataclass(frozen=True)
class Sized(LeastSquares):
    """Least squares with minibatches of any size."""

    def draw_batch(self, rng: np.random.Generator, size: int) -> Any:
        return rng.choice(len(self.y), size, replace=False)


def sized(workers: int, size: int = 6, seed: int = 0) -> list[Sized]:
    return [Sized(o.x, o.y) for o in least_squares(workers, size, seed=seed)]


@dataclass(frozen=True)
class Coarse(Oracle):
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


class Running(Oracle):
    """Least squares with a running mean of a few of the batch's columns."""

    num_examples: int
    width = 3

    def __init__(self, oracle: LeastSquares) -> None:
        self.oracle = oracle
        self.num_examples = oracle.num_examples
        self.values = np.zeros(self.width, np.float32)
        self.calls: deque[tuple[F32, F32]] = deque(maxlen=16)

    def draw(self, rng: np.random.Generator) -> Any:
        return self.oracle.draw(rng)

    def load_buffers(self, values: F32) -> None:
        assert not values.flags.writeable
        self.values[:] = values  # in place, as a module's buffers are

    def buffers(self) -> F32:
        return self.values

    def gradient(self, theta: F32, batch: Any) -> F32:
        before = self.values.copy()
        mean = self.oracle.x[batch].mean(axis=0)[: self.width] * (1 + theta[0])
        self.values *= 0.9
        self.values += 0.1 * mean
        self.calls.append((before, self.values.copy()))
        return self.oracle.gradient(theta, batch)
