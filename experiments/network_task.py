"""Networks in the comparison: a model, its data spread over workers, and the loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from lasg_flwr.oracles.torch.oracle import TorchOracle
from lasg_flwr.vectors import F32

from .batches import Batch
from .data import NetworkData
from .narrow_resnet import narrow_resnet18
from .networks import (
    Characters,
    mnist_network,
    seeded_network,
    tiny_imagenet_network,
)
from .pretraining import start_from

EVALUATED = {
    "mnist": (2000, 1000),
    "shakespeare": (500, 200),
    "tiny-imagenet-50": (1000, 2500),
}
"""Training and test examples that the loss and the accuracy are taken over."""
_EVALUATED_ELSE = (500, 500)


@dataclass(frozen=True)
class NetworkTask:
    """A network on a data set, spread over workers; an `experiments.tasks.Task`.

    `train` and `test` are a fixed part of the workers' and of the test examples: a
    whole data set would take longer to evaluate than many rounds take. The oracles
    share one module; `notes` says how it was made, and the sizes of `train` and `test`.
    """

    oracles: Sequence[TorchOracle]
    train: TensorDataset
    test: TensorDataset
    first_buffers: F32
    notes: dict[str, Any]
    l2: float = 0.0

    @property
    def size(self) -> int:
        """Length of θ."""
        return self.oracles[0].size

    def start(self) -> F32:
        """Return θ^0, the network's first weights: random, or pretrained ones."""
        return self.oracles[0].theta()

    def start_buffers(self) -> F32:
        """Return the network's first BatchNorm statistics."""
        return self.first_buffers

    def load_buffers(self, values: F32) -> None:
        """Set the statistics that `loss` and `accuracy` use."""
        self.oracles[0].load_buffers(values)

    def loss(self, theta: F32) -> float:
        """Return the mean loss over `train`."""
        return self.oracles[0].evaluate_on(theta, self.train)[0]

    def accuracy(self, theta: F32) -> float:
        """Return the share of targets in `test` that are predicted correctly."""
        return self.oracles[0].evaluate_on(theta, self.test)[2]["accuracy"]


def network_task(
    data: NetworkData, parts: Sequence[NDArray[np.int64]], batch: Batch, seed: int
) -> NetworkTask:
    """Build a task whose worker m holds the training examples ``parts[m]``.

    `seed` is that of the initial weights.
    """
    network, made = _network(data, seed)
    oracles = [
        TorchOracle(network, cross_entropy, _tensors(data.train_x, data.train_y, part),
                    batch.of(len(part)))
        for part in parts
    ]  # fmt: skip
    for_loss, for_accuracy = EVALUATED.get(data.name, _EVALUATED_ELSE)
    held = _some(np.sort(np.concatenate(parts)), for_loss)
    kept = _some(np.arange(len(data.test_y)), for_accuracy)
    notes = {
        "network": made,
        "loss_examples": len(held),
        "accuracy_examples": len(kept),
        "device": str(oracles[0].device),
    }
    train = _tensors(data.train_x, data.train_y, held)
    test = _tensors(data.test_x, data.test_y, kept)
    return NetworkTask(oracles, train, test, oracles[0].buffers(), notes)


def _network(data: NetworkData, seed: int) -> tuple[nn.Module, str]:
    made = ""

    def make() -> nn.Module:
        nonlocal made
        if data.name == "mnist":
            made = "two convolution-ELU-max-pooling layers, two fully connected"
            return mnist_network()
        if data.name == "shakespeare":
            made = "embedding of 16, GRU of 96, linear"
            return Characters(data.classes)
        if data.name == "tiny-imagenet-50":
            made = "ResNet18 a quarter as wide, no first max-pooling"
            narrow = narrow_resnet18(data.classes)
            if data.pretrained is not None:
                made += ", pretrained on the other classes"
                start_from(narrow, data.pretrained)
            return narrow
        network, made = tiny_imagenet_network(data.classes, data.train_x.shape[-1])
        return network

    return seeded_network(make, seed), made


def _tensors(
    x: NDArray[Any], y: NDArray[np.int64], at: NDArray[np.int64]
) -> TensorDataset:
    return TensorDataset(torch.from_numpy(x[at]), torch.from_numpy(y[at]))


def _some(indices: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the same random part of `indices` every time, or all of them."""
    if len(indices) <= most:
        return indices
    return np.random.default_rng(0).choice(indices, most, replace=False)
