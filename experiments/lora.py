"""A transformer with LoRA adapters, fine-tuned by lazy rules.

A small causal transformer learns next characters of shakespeare on roles that nobody
holds; each of four workers then has one of the largest roles, and trains adapters of
rank 8 with AdamW, under a learning rate that falls as a cosine by round.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from lasg_flwr import LasgConfig, Oracle, simulate
from lasg_flwr.optim import Cosine
from lasg_flwr.vectors import F32

from .data import load_network_data, partition
from .output import clear_errors, show

RULES = ("sgd", "wk2", "vr", "vr:c=0.25", "vr:c=1")


@dataclass(frozen=True)
class Size:
    """How large the study is."""

    workers: int = 4
    rounds: int = 12
    local_steps: int = 10
    batch: int = 16
    rate: float = 2e-3
    rank: int = 8
    width: int = 64
    pretraining: int = 300


def network(characters: int, size: Size) -> Any:
    """Return the transformer, without adapters."""
    from torch import nn

    width = size.width

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
            self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = (
                nn.Linear(width, 4 * width),
                nn.Linear(4 * width, width),
            )

        def forward(self, x: Any) -> Any:
            b, t, _ = x.shape
            heads = self.mix(self.first(x)).view(b, t, 3, 4, width // 4)
            q, k, v = heads.permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).reshape(b, t, width))
            return x + self.down(nn.functional.gelu(self.up(self.second(x))))

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.characters = nn.Embedding(characters, width)
            self.places = nn.Parameter(0.02 * _normal(64, width))
            self.blocks = nn.Sequential(Block(), Block())
            self.head = nn.Linear(width, characters)

        def forward(self, x: Any) -> Any:
            hidden = self.characters(x) + self.places[: x.shape[1]]
            return self.head(self.blocks(hidden)).transpose(1, 2)

    return Transformer()


def _normal(*shape: int) -> Any:
    import torch

    return torch.randn(*shape)


def add_adapters(model: Any, rank: int) -> None:
    """Freeze a model, and give the linear layers of its blocks W + BA for W."""
    import torch
    from torch import nn
    from torch.nn.utils import parametrize

    class Adapter(nn.Module):
        def __init__(self, weight: Any) -> None:
            super().__init__()
            rows, columns = weight.shape
            self.a = nn.Parameter(_normal(rank, columns) / sqrt(columns))
            self.b = nn.Parameter(torch.zeros(rows, rank))

        def forward(self, weight: Any) -> Any:
            return weight + self.b @ self.a

    model.requires_grad_(requires_grad=False)
    for module in list(model.blocks.modules()):
        if isinstance(module, nn.Linear):
            adapter = Adapter(module.weight)
            parametrize.register_parametrization(module, "weight", adapter)


class AdapterOracle(Oracle):
    """θ − θ_local of H steps of AdamW on one role's text; θ is all adapters."""

    num_examples: int

    def __init__(self, model: Any, x: Any, y: Any, size: Size, rounds: int) -> None:
        self.model, self.x, self.y, self.study = model, x, y, size
        self.adapters = [p for p in model.parameters() if p.requires_grad]
        self.num_examples, self.schedule = len(x), Cosine(size.rate, rounds)
        self.k = 0

    def start_round(self, k: int) -> None:
        """Take the round: the learning rate falls by it."""
        self.k = k

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw H minibatches."""
        shape = self.study.local_steps, self.study.batch
        return rng.integers(self.num_examples, size=shape)

    def gradient(self, theta: F32, batch: NDArray[np.int64]) -> F32:
        """Train from θ, and return what it moved by."""
        import torch

        self.load(theta)
        rate = self.schedule(self.k)
        steps = torch.optim.AdamW(self.adapters, lr=rate, weight_decay=0.01)
        for at in batch:
            steps.zero_grad()
            self.loss(self.x[at], self.y[at]).backward()
            steps.step()
        return theta - vector(self.adapters)

    def load(self, theta: F32) -> None:
        """Set the adapters."""
        import torch
        from torch.nn.utils import vector_to_parameters

        vector_to_parameters(torch.from_numpy(theta.copy()), self.adapters)

    def loss(self, x: Any, y: Any) -> Any:
        """Return the mean loss of sequences."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(self.model(x), y)


def vector(parameters: Sequence[Any]) -> F32:
    """Return parameters as one vector."""
    from torch.nn.utils import parameters_to_vector

    made: F32 = parameters_to_vector(parameters).detach().numpy().copy()
    return made


def oracles_of(name: str, size: Size, seed: int, data_dir: Path | None) -> list[Any]:
    """Return an oracle for each worker; they share a model, pretrained on others."""
    import torch

    data = load_network_data(name, data_dir)
    parts = partition(data.groups, size.workers, "natural", seed)
    others = np.setdiff1d(np.arange(len(data.groups)), np.concatenate(parts))
    x, y = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network(data.classes, size)
        _pretrain(model, x, y, np.random.default_rng(seed).choice, others, size)
        add_adapters(model, size.rank)
    return [AdapterOracle(model, x[part], y[part], size, size.rounds) for part in parts]


def _pretrain(
    model: Any, x: Any, y: Any, choice: Any, others: NDArray[np.int64], size: Size
) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    steps = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(size.pretraining):
        at = choice(others, 32)
        steps.zero_grad()
        cross_entropy(model(x[at]), y[at]).backward()  # type: ignore[no-untyped-call]
        steps.step()


def study(
    oracles: Sequence[Any], size: Size, rules: Sequence[str], seed: int
) -> Iterator[dict[str, Any]]:
    """Yield a row for each rule: its final loss over all roles, and its uploads."""
    import torch

    start = vector(oracles[0].adapters)

    def loss(theta: F32) -> float:
        oracles[0].load(theta)
        with torch.no_grad():
            found = [float(o.loss(o.x[:400], o.y[:400])) for o in oracles]
        return float(np.mean(found))

    plain = loss(start)
    yield {"rule": "none", "loss": plain, "of_plain": None, "uploads": 0}
    for rule in rules:
        config = LasgConfig(rule, step=1.0, seed=seed)
        result = simulate(oracles, start, rounds=size.rounds, config=config)
        final = loss(result.theta)
        plain = final if rule == rules[0] else plain
        uploads = result.ledger.uploads
        yield {
            "rule": rule, "loss": final, "of_plain": final / plain, "uploads": uploads
        }  # fmt: skip


def lora_command(
    rules: Annotated[
        str | None, typer.Option(help="separated by blanks; the first is the plain one")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    dataset: Annotated[str, typer.Option()] = "shakespeare",
    pretraining: Annotated[int, typer.Option(min=0)] = Size.pretraining,
    data_dir: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Fine-tune a small transformer's adapters by lazy rules, AdamW and a cosine."""
    size = Size(pretraining=pretraining)
    with clear_errors():
        chosen = tuple(rules.split()) if rules else RULES
        oracles = oracles_of(dataset, size, seed, data_dir)
        rows = list(study(oracles, size, chosen, seed))
    show(f"{dataset}: {len(vector(oracles[0].adapters))} adapter weights", rows)
