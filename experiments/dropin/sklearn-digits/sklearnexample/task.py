"""Model and data: softmax regression on scikit-learn's digits."""

import numpy as np
from flwr.app import Array
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss


def _digits():
    data = load_digits()
    order = np.random.default_rng(7).permutation(len(data.target))
    x = data.data[order] / 16
    return x, data.target[order]


def load_data(node, nodes):
    """Return the images and labels of a node: a part of the first 1,500."""
    x, y = _digits()
    return x[:1500][node::nodes], y[:1500][node::nodes]


def test_data():
    """Return the images and labels that no node has."""
    x, y = _digits()
    return x[1500:], y[1500:]


def new_model(seed):
    """Return a classifier with weights of 0."""
    model = SGDClassifier(
        loss="log_loss", learning_rate="constant", eta0=0.01, random_state=seed
    )
    model.classes_ = np.arange(10)
    model.coef_, model.intercept_ = np.zeros((10, 64)), np.zeros(10)
    return model


def get_arrays(model):
    """Return the weights, by name."""
    return {"coef": Array(model.coef_), "intercept": Array(model.intercept_)}


def set_arrays(model, arrays):
    """Put weights into the model."""
    model.coef_ = arrays["coef"].numpy()
    model.intercept_ = arrays["intercept"].numpy()


def train(model, data, steps, seed):
    """Take steps with minibatches of 32; return the loss after them."""
    x, y = data
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        chosen = rng.choice(len(y), 32, replace=False)
        model.partial_fit(x[chosen], y[chosen], classes=model.classes_)
    return test(model, data)[0]


def test(model, data):
    """Return loss and accuracy."""
    x, y = data
    p = model.predict_proba(x)
    return float(log_loss(y, p, labels=model.classes_)), float(model.score(x, y))
