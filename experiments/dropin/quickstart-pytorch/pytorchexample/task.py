"""The task: MNIST, a small CNN, local training and testing."""

import gzip
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

Loader = DataLoader[tuple[torch.Tensor, ...]]


class Net(nn.Module):
    """Two convolutions, max pooling, two linear layers: 20,522 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 5, stride=2)
        self.conv2 = nn.Conv2d(8, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of images, shape (n, 1, 28, 28)."""
        x = torch.relu(self.conv1(x))
        x = self.pool(torch.relu(self.conv2(x)))
        logits: torch.Tensor = self.fc2(torch.relu(self.fc1(x.flatten(1))))
        return logits


@lru_cache(maxsize=2)
def load_mnist(data_dir: str, part: str) -> TensorDataset:
    """Read the images and labels of ``"train"`` or ``"t10k"``."""

    def read(kind: str, header: int) -> torch.Tensor:
        path = Path(data_dir) / f"{part}-{kind}-ubyte.gz"
        with gzip.open(path) as file:
            return torch.from_numpy(
                np.frombuffer(file.read()[header:], np.uint8).copy()
            )

    images = read("images-idx3", 16).reshape(-1, 1, 28, 28)
    return TensorDataset(
        (images.float() / 255 - 0.1307) / 0.3081, read("labels-idx1", 8).long()
    )


def load_data(
    data_dir: str, partition_id: int, num_partitions: int, batch_size: int
) -> tuple[Loader, Loader]:
    """Return loaders of a node's own images: 80 % to train on, 20 % to validate."""
    data = load_mnist(data_dir, "train")
    order = np.random.default_rng(42).permutation(len(data))
    mine = order[partition_id::num_partitions].tolist()
    cut = len(mine) * 4 // 5
    train = DataLoader(Subset(data, mine[:cut]), batch_size=batch_size, shuffle=True)
    return train, DataLoader(Subset(data, mine[cut:]), batch_size=200)


def load_test_data(data_dir: str) -> Loader:
    """Return a loader of the 10,000 test images."""
    return DataLoader(load_mnist(data_dir, "t10k"), batch_size=500)


def train(net: nn.Module, loader: Loader, steps: int, lr: float) -> float:
    """Take `steps` steps of SGD on shuffled batches and return the mean loss."""
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    net.train()
    total = 0.0
    for images, labels in islice(loader, steps):
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / min(steps, len(loader))


@torch.no_grad()
def test(net: nn.Module, loader: Loader) -> tuple[float, float]:
    """Return mean loss and accuracy on a loader's images."""
    net.eval()
    loss, correct, seen = 0.0, 0, 0
    for images, labels in loader:
        logits = net(images)
        loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(1) == labels).sum())
        seen += len(labels)
    return loss / seen, correct / seen
