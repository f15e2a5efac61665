"""The synthetic logistic regression of Figure 2, of which the paper gives no size."""

import numpy as np

from ..data import Dataset

PREFIX = "synthetic-"
FEATURES, SEED = 50, 2021


def load(name: str) -> Dataset:
    """Return N examples of 50 Gaussian features and a constant, for "synthetic-N".

    Labels are drawn from the logistic model, P(y = 1 | x) = 1/(1 + exp(−xᵀθ)), with
    θ of standard normals; another N examples are for testing.

    Examples
    --------
    >>> load("synthetic-100").train_x.shape
    (100, 51)
    """
    count = int(name.removeprefix(PREFIX))
    rng = np.random.default_rng(SEED)
    raw = rng.standard_normal((2 * count, FEATURES))
    odds = 1 / (1 + np.exp(-raw @ rng.standard_normal(FEATURES)))
    y = np.where(rng.random(len(raw)) < odds, np.float32(1), np.float32(-1))
    x = np.ones((len(raw), FEATURES + 1), np.float32)
    x[:, :-1] = raw
    return Dataset(name, x[:count], y[:count], x[count:], y[count:], classes=2)
