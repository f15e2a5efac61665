"""The logistic-regression tasks: oracles, and the loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lasg_flwr import Oracle
from lasg_flwr.rules.smoothness import linear_smoothness
from lasg_flwr.vectors import F32, NO_BUFFERS

from .batches import Batch
from .data import Dataset

L2 = 1e-5
"""λ of λ/2 ‖θ‖², as in Section IV-A of the paper."""

_CHUNK = 65_536


class _Examples(Oracle):
    """One worker's examples, and minibatches of them without replacement."""

    x: F32
    y: NDArray[Any]
    batch_size: int

    def __post_init__(self) -> None:
        n = len(self.x)
        if n == 0:
            raise ValueError("the data set of a worker is empty: use fewer workers")
        if not 1 <= self.batch_size <= n:
            raise ValueError(
                f"batch_size must lie in [1, {n}], the worker's examples, got "
                f"{self.batch_size!r}"
            )

    @property
    def num_examples(self) -> int:
        """Number n of examples."""
        return len(self.y)

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw the indices of a minibatch."""
        return self.draw_batch(rng, self.batch_size)

    def draw_batch(self, rng: np.random.Generator, size: int) -> NDArray[np.int64]:
        """Draw the indices of a minibatch of `size` examples."""
        return rng.choice(len(self.y), size, replace=False, shuffle=False)


@dataclass(frozen=True)
class LogisticOracle(_Examples):
    """Binary logistic regression on one worker's data, labels −1 and +1 (float32).

    ℓ(θ; x, y) = log(1 + exp(−y xᵀθ)) + λ/2 ‖θ‖²; `x` of shape (n, p) has a constant-1
    column; minibatches of `batch_size` are drawn without replacement; `l2` is λ.
    """

    x: F32
    y: F32
    batch_size: int
    l2: float = L2

    @property
    def size(self) -> int:
        """Length p of θ."""
        return int(self.x.shape[1])

    def gradient(self, theta: F32, batch: NDArray[np.int64]) -> F32:
        """Return the gradient of the mean loss over the minibatch."""
        x, y = self.x[batch], self.y[batch]
        slope = np.tanh((x @ theta) * y * np.float32(0.5))
        slope -= np.float32(1)
        slope *= y
        slope *= np.float32(0.5 / len(y))
        gradient: F32 = slope @ x
        gradient += np.float32(self.l2) * theta
        return gradient

    def smoothness(self) -> float:
        """Return L_m."""
        return linear_smoothness(self.x, "logistic", self.l2)


@dataclass(frozen=True)
class SoftmaxOracle(_Examples):
    """Multinomial logistic regression on one worker's data, labels 0 to C − 1 (int64).

    θ is the (p, C) weight matrix, flattened by rows; all else as in `LogisticOracle`.
    """

    x: F32
    y: NDArray[np.int64]
    classes: int
    batch_size: int
    l2: float = L2

    @property
    def size(self) -> int:
        """Length p·C of θ."""
        return int(self.x.shape[1]) * self.classes

    def gradient(self, theta: F32, batch: NDArray[np.int64]) -> F32:
        """Return the gradient of the mean loss over the minibatch."""
        x, y = self.x[batch], self.y[batch]
        p = _softmax(x @ theta.reshape(-1, self.classes))
        p[np.arange(len(y)), y] -= np.float32(1)
        gradient: F32 = (x.T @ p).ravel() / np.float32(len(y))
        gradient += np.float32(self.l2) * theta
        return gradient

    def smoothness(self) -> float:
        """Return L_m."""
        return linear_smoothness(self.x, "softmax", self.l2)


LinearOracle = LogisticOracle | SoftmaxOracle


def _softmax(logits: F32) -> F32:
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


@dataclass(frozen=True)
class LinearTask:
    """A linear model on data spread over workers; an `experiments.tasks.Task`."""

    dataset: Dataset
    oracles: Sequence[LinearOracle]
    l2: float

    @property
    def size(self) -> int:
        """Length of θ."""
        return self.oracles[0].size

    @property
    def notes(self) -> dict[str, Any]:
        """Nothing: the loss is that of all training examples."""
        return {}

    def start(self) -> F32:
        """Return θ^0 = 0."""
        return np.zeros(self.size, np.float32)

    def start_buffers(self) -> F32:
        """Return none: linear models have no buffers."""
        return NO_BUFFERS

    def load_buffers(self, values: F32) -> None:
        """Do nothing, likewise."""

    def loss(self, theta: F32) -> float:
        """Return the mean training loss with regularisation, in float64."""
        x, y = self.dataset.train_x, self.dataset.train_y
        total = sum(
            _losses(x[i : i + _CHUNK], y[i : i + _CHUNK], theta, self.dataset.classes)
            for i in range(0, len(y), _CHUNK)
        )
        square = float(theta.astype(np.float64) @ theta.astype(np.float64))
        return total / len(y) + self.l2 / 2 * square

    def accuracy(self, theta: F32) -> float:
        """Return the share of test examples that are classified correctly."""
        x, y = self.dataset.test_x, self.dataset.test_y
        if self.dataset.classes == 2:
            return float(np.mean(np.where(x @ theta > 0, 1.0, -1.0) == y))
        logits = x @ theta.reshape(-1, self.dataset.classes)
        return float(np.mean(logits.argmax(axis=1) == y))


def _losses(x: F32, y: NDArray[np.generic], theta: F32, classes: int) -> float:
    """Return the sum of the losses of some examples."""
    if classes == 2:
        margin = (x @ theta).astype(np.float64) * y.astype(np.float64)
        return float(np.logaddexp(0.0, -margin).sum())
    logits = (x @ theta.reshape(-1, classes)).astype(np.float64)
    top = logits.max(axis=1)
    log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return float((log_sum - logits[np.arange(len(y)), y.astype(np.int64)]).sum())


def worker_oracle(
    dataset: Dataset, part: NDArray[np.int64], batch: Batch, l2: float = L2
) -> LinearOracle:
    """Return the oracle of the worker that holds the examples `part`."""
    x, y = dataset.train_x[part], dataset.train_y[part]
    size = batch.of(len(part))
    if dataset.classes == 2:
        return LogisticOracle(x, y.astype(np.float32), size, l2)
    return SoftmaxOracle(x, y.astype(np.int64), dataset.classes, size, l2)
