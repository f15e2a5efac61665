"""PyTorch models and data for the tests of TorchOracle."""

import random
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, dropout
from torch.utils.data import (
    Dataset,
    TensorDataset,
)

from lasg_flwr.clients import TorchOracle

RNG = np.random.default_rng


def points(n: int = 30, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator)
    return TensorDataset(x, torch.randint(0, 3, (n,), generator=generator))


class Augmented(Dataset[Any]):
    """Examples with noise from each of the three global generators."""

    def __init__(self, n: int = 20) -> None:
        self.plain = points(n)

    def __len__(self) -> int:
        return len(self.plain)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.plain[i]
        noise = torch.randn(4) + random.random() + float(np.random.rand())  # noqa: NPY002
        return x + noise, y


class Rich(nn.Module):
    """Dropout, BatchNorm, a frozen layer, a parameter that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(2))
        self.last = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = dropout(self.norm(self.first(x)), 0.5, self.training)
        output: torch.Tensor = self.last(torch.relu(self.frozen(x)))
        return output


def oracle_of(model: nn.Module | None = None, **options: Any) -> TorchOracle:
    options = {"data": points(), "batch_size": 8, **options}
    return TorchOracle(model or Rich(), cross_entropy, device="cpu", **options)
