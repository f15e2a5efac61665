"""Model and data: a network with BatchNorm on scikit-learn's digits."""

import keras
import numpy as np
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


def new_model(seed):
    """Return a new network."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.layers.Input((64,)),
            keras.layers.Dense(128),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.SGD(0.05)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def get_arrays(model):
    """Return the weights."""
    return model.get_weights()


def set_arrays(model, arrays):
    """Put weights into the model."""
    model.set_weights(arrays.to_numpy_ndarrays())


def train(model, data, steps, seed):
    """Take steps with minibatches of 32; return the last one's loss."""
    keras.utils.set_random_seed(seed)
    chosen = np.random.default_rng(seed).choice(len(data[1]), 32 * steps)
    x, y = data[0][chosen], data[1][chosen]
    fitted = model.fit(x, y, batch_size=32, epochs=1, verbose=0)
    return float(fitted.history["loss"][-1])


def test(model, data):
    """Return loss and accuracy."""
    loss, accuracy = model.evaluate(*data, batch_size=512, verbose=0)
    return float(loss), float(accuracy)
