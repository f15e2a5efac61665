"""A small transformer made on the spot, and what LoRA changes in it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lasg_flwr.vectors import F32

from .data import load_network_data
from .networks import seeded_network

WIDTH, HEADS, LAYERS, RANK = 128, 4, 2, 8
BASE_STEPS, LOCAL_STEPS, BATCH = 150, 10, 16


class Adapted(nn.Module):
    """A linear layer that stays as it is, plus B·A of rank `RANK`, B = 0 at first."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.a = nn.Parameter(torch.randn(RANK, linear.in_features) / RANK)
        self.b = nn.Parameter(torch.zeros(linear.out_features, RANK))

    def forward(self, x: Tensor) -> Tensor:
        """Apply W + B·A."""
        y: Tensor = self.linear(x) + x @ self.a.T @ self.b.T
        return y


class Block(nn.Module):
    """Causal self-attention and two layers, both with residuals (pre-norm)."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.mix: nn.Module = nn.Linear(WIDTH, 3 * WIDTH)
        self.out: nn.Module = nn.Linear(WIDTH, WIDTH)
        self.up: nn.Module = nn.Linear(WIDTH, 4 * WIDTH)
        self.down: nn.Module = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, t, WIDTH) to the same shape."""
        b, t, _ = x.shape
        heads = (
            self.mix(self.norms[0](x)).view(b, t, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        )
        q, k, v = heads
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(b, t, WIDTH))
        y: Tensor = x + self.down(torch.relu(self.up(self.norms[1](x))))
        return y


class Transformer(nn.Module):
    """Predicts each next character."""

    def __init__(self, characters: int, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, WIDTH)
        self.place = nn.Parameter(torch.zeros(length, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.output = nn.Linear(WIDTH, characters)

    def forward(self, x: Tensor) -> Tensor:
        """Map codes (b, t) to logits (b, characters, t)."""
        hidden = self.blocks(self.embedding(x) + self.place[: x.shape[1]])
        logits: Tensor = self.output(hidden)
        return logits.transpose(1, 2)


def lora_update(data_dir: Path | None, seed: int = 0) -> tuple[F32, tuple[int, ...]]:
    """Return what `LOCAL_STEPS` steps on one role take from the adapters.

    With it come the lengths of the adapters' matrices.
    """
    data = load_network_data("shakespeare", data_dir)
    length = data.train_x.shape[1]
    model = seeded_network(lambda: Transformer(data.classes, length), seed)
    x, y = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    _train(model, optimizer, x, y, BASE_STEPS, rng)
    model.requires_grad_(False)
    seeded_network(lambda: _adapt(model), seed)
    adapters = [p for p in model.parameters() if p.requires_grad]
    before = _flat(adapters)
    role = torch.from_numpy(np.flatnonzero(data.groups == data.groups[0]))
    sgd = torch.optim.SGD(adapters, lr=0.5)
    _train(model, sgd, x[role], y[role], LOCAL_STEPS, rng)
    return before - _flat(adapters), tuple(p.numel() for p in adapters)


def _adapt(model: nn.Module) -> nn.Module:
    for block in model.blocks:  # type: ignore[union-attr]
        for name in ("mix", "out", "up", "down"):
            setattr(block, name, Adapted(getattr(block, name)))
    return model


def _train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    steps: int,
    rng: np.random.Generator,
) -> None:
    for _ in range(steps):
        at = torch.from_numpy(rng.choice(len(x), min(BATCH, len(x)), replace=False))
        optimizer.zero_grad()
        cross_entropy(model(x[at]), y[at]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _flat(parameters: list[nn.Parameter]) -> F32:
    return torch.cat([p.detach().reshape(-1) for p in parameters]).numpy().copy()
