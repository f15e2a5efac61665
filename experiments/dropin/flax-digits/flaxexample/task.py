"""Model and data: a network with BatchNorm on scikit-learn's digits."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from flwr.app import Array
from sklearn.datasets import load_digits


def _digits():
    data = load_digits()
    order = np.random.default_rng(7).permutation(len(data.target))
    x = (data.data[order] / 16).astype(np.float32)
    return x, data.target[order]


def load_data(node, nodes):
    """Return the images and labels of a node: a part of the first 1,500."""
    x, y = _digits()
    return x[:1500][node::nodes], y[:1500][node::nodes]


def test_data():
    """Return the images and labels that no node has."""
    x, y = _digits()
    return x[1500:], y[1500:]


class Net(nn.Module):
    """A network of two hidden layers."""

    @nn.compact
    def __call__(self, x, training):
        """Return the classes' scores."""
        x = nn.Dense(128)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not training, momentum=0.9)(x))
        return nn.Dense(10)(nn.relu(nn.Dense(64)(x)))


NET = Net()


def new_model(seed):
    """Return new variables: parameters and BatchNorm's statistics."""
    return dict(NET.init(jax.random.key(seed), jnp.zeros((1, 64)), False))


def get_arrays(model):
    """Return the variables, by path."""
    flat = flatten_dict(model, sep="/")
    return {name: Array(np.asarray(value)) for name, value in flat.items()}


def set_arrays(model, arrays):
    """Put variables into the model."""
    flat = {name: jnp.asarray(array.numpy()) for name, array in arrays.items()}
    model.update(unflatten_dict(flat, sep="/"))


def _loss(params, statistics, x, y):
    variables = {"params": params, "batch_stats": statistics}
    scores, new = NET.apply(variables, x, True, mutable=["batch_stats"])
    picked = jax.nn.log_softmax(scores)[jnp.arange(len(y)), y]
    return -picked.mean(), new["batch_stats"]


@jax.jit
def _step(params, statistics, x, y):
    found, gradient = jax.value_and_grad(_loss, has_aux=True)(params, statistics, x, y)
    params = jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient)
    return params, found[1], found[0]


def train(model, data, steps, seed):
    """Take steps with minibatches of 32; return the last one's loss."""
    key, loss = jax.random.key(seed), 0.0
    for _ in range(steps):
        key, now = jax.random.split(key)
        chosen = np.asarray(jax.random.choice(now, len(data[1]), (32,), replace=False))
        params, statistics, loss = _step(
            model["params"], model["batch_stats"], data[0][chosen], data[1][chosen]
        )
        model.update(params=params, batch_stats=statistics)
    return float(loss)


def test(model, data):
    """Return loss and accuracy."""
    scores = NET.apply(model, data[0], False)
    picked = jax.nn.log_softmax(scores)[jnp.arange(len(data[1])), data[1]]
    return float(-picked.mean()), float((scores.argmax(axis=1) == data[1]).mean())
