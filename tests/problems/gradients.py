"""Gradients from real training, for tests of sizes."""

from functools import cache

import numpy as np

from experiments.data import load
from lasg_flwr.vectors import F32

from .real_data import need_files

HIDDEN, CLASSES = 128, 2


def _batch_gradient(weights: list[F32], x: F32, y: np.ndarray) -> list[F32]:
    first, second = weights
    hidden = np.maximum(x @ first, 0)
    logits = hidden @ second
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    p /= len(y)
    back = (p @ second.T) * (hidden > 0)
    return [x.T @ back, hidden.T @ p]


@cache
def perceptron_gradients(dataset: str = "mnist35") -> dict[str, F32]:
    """Train a ReLU network with one hidden layer; return gradients along the way.

    785 x 128 + 128 x 2 = 100,736 coordinates on mnist35; batches of 32.
    """
    if dataset != "digits":
        need_files(dataset)
    data = load(dataset)
    x, y = data.train_x, (data.train_y > 0).astype(np.int64)
    rng = np.random.default_rng(0)
    scale = np.sqrt(2 / x.shape[1])
    weights = [
        (rng.standard_normal((x.shape[1], HIDDEN)) * scale).astype(np.float32),
        (rng.standard_normal((HIDDEN, CLASSES)) * 0.1).astype(np.float32),
    ]
    found: dict[str, F32] = {}
    for step in range(101):
        batch = rng.choice(len(y), 32, replace=False)
        gradient = _batch_gradient(weights, x[batch], y[batch])
        if step in (0, 30, 100):
            found[f"step {step}"] = np.concatenate([g.ravel() for g in gradient])
        for w, g in zip(weights, gradient, strict=True):
            w -= np.float32(0.1) * g
    return found
