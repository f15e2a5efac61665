"""Model and data: a network with BatchNorm on scikit-learn's digits."""

import logging
import warnings

import lightning
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


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


class Digits(lightning.LightningModule):
    """A network of two hidden layers."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(),
            nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip

    def training_step(self, batch, _):
        """Return the loss of a minibatch."""
        return cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        """Return the optimizer."""
        return torch.optim.SGD(self.parameters(), lr=0.05)


def new_model(seed):
    """Return a new network."""
    torch.manual_seed(seed)
    return Digits()


def get_arrays(model):
    """Return the state."""
    return model.state_dict()


def set_arrays(model, arrays):
    """Load a state."""
    model.load_state_dict(arrays.to_torch_state_dict())


def train(model, data, steps, seed):
    """Let a Trainer take steps with minibatches of 32; return the loss after them."""
    dataset = TensorDataset(torch.tensor(data[0]), torch.tensor(data[1]))
    torch.manual_seed(seed)
    sampler = RandomSampler(dataset, replacement=True, num_samples=32 * steps)
    trainer = lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, DataLoader(dataset, batch_size=32, sampler=sampler))
    return test(model, data)[0]


def test(model, data):
    """Return loss and accuracy."""
    model.eval()
    with torch.no_grad():
        out, y = model.net(torch.tensor(data[0])), torch.tensor(data[1])
    accuracy = (out.argmax(dim=1) == y).float().mean()
    return float(cross_entropy(out, y)), float(accuracy)
