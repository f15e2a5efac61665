"""Gradients of many workers in one call: equal to their own to rounding, or refused."""

import random
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra torch")

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from lasg_flwr import Oracle, simulate
from lasg_flwr.errors import NotTogetherError
from lasg_flwr.oracles import LocalSteps
from lasg_flwr.oracles.torch import TorchOracle
from lasg_flwr.vectors import F32
from tests.problems.torch_oracles import RNG, Augmented, Rich, points

WORKERS = 5


def network() -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Linear(4, 6)
    frozen = nn.Linear(6, 6).requires_grad_(False)
    return nn.Sequential(first, nn.ELU(), frozen, nn.ReLU(), nn.Linear(6, 3))


def oracles_of(
    model: nn.Module | None = None, n: int = 30, **options: Any
) -> list[TorchOracle]:
    model = model or network()
    return [
        TorchOracle(model, cross_entropy, points(n, seed=m), 8, device="cpu", **options)
        for m in range(WORKERS)
    ]


def run(oracles: list[Any], **options: Any) -> Any:
    options = {"rounds": 25, "step": 0.3, "rule": "wk2", "seed": 3, **options}
    return simulate(oracles, oracles[0].theta(), **options)


@pytest.mark.parametrize("rule", ["sgd", "wk2", "vr", "pse"])
def test_together_is_by_itself_to_rounding(rule: str) -> None:
    oracles = oracles_of(weight_decay=0.01)
    together = run(oracles, rule=rule)
    by_itself = run(oracles, rule=rule, batched=False)
    assert together.not_batched == ""
    assert by_itself.not_batched == "batched=False"
    assert together.ledger.uploads == by_itself.ledger.uploads
    np.testing.assert_allclose(together.theta, by_itself.theta, rtol=1e-5, atol=1e-6)
    moved = np.abs(by_itself.theta - oracles[0].theta()).max()
    assert moved > 0.01


def test_every_point_gets_its_own_gradient() -> None:
    """Two θ, one worker twice, batches of two sizes, one point like no other."""
    oracles = oracles_of()
    theta = oracles[0].theta()
    other, third = theta + np.float32(0.1), theta - np.float32(0.1)
    workers = [0, 1, 1, 2, 3, 4, 0]
    thetas = [theta, theta, other, other, theta, theta, third]
    sizes = [8, 8, 8, 8, 5, 5, 8]
    batches = [
        oracles[m].draw_batch(RNG(i), size)
        for i, (m, size) in enumerate(zip(workers, sizes, strict=True))
    ]
    found = oracles[0].together(oracles)(workers, thetas, batches)
    assert len(found) == len(workers)
    for gradient, m, at, batch in zip(found, workers, thetas, batches, strict=True):
        own = oracles[m].gradient(at, batch)
        np.testing.assert_allclose(gradient, own, rtol=1e-5, atol=1e-6)
    assert len({gradient.tobytes() for gradient in found}) == len(workers)


def test_calls_are_cut_so_that_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    oracles = oracles_of()
    whole = run(oracles, rounds=8)
    monkeypatch.setattr("lasg_flwr.protocol.answers._MOST_NUMBERS", 1)
    cut = run(oracles, rounds=8)
    assert cut.not_batched == ""
    np.testing.assert_allclose(cut.theta, whole.theta, rtol=1e-5, atol=1e-6)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.second(torch.relu(self.first(x)))
        return output


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layer(x)
        return -output if output.sum() > 0 else output


class PythonsNoise(nn.Module):
    """Noise that vmap does not see: one number for all workers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layer(x * (1 + random.random()))
        return output


REFUSED = [
    (lambda: oracles_of(nn.Sequential(nn.Linear(4, 3), nn.Dropout())), "vmap refuses"),
    (lambda: oracles_of(Branching()), "vmap refuses"),
    (lambda: oracles_of(PythonsNoise()), "differs from its own"),
    (lambda: oracles_of(Tied()), "tied"),
    (lambda: [*oracles_of(), oracles_of()[0]], "do not share module"),
    (lambda: oracles_of()[:1], "one worker"),
    (lambda: oracles_of(forward=lambda m, b: (m(b[0]), b[1])), "forward= is given"),
    (lambda: [LocalSteps(o, 2, 0.1) for o in oracles_of()], "a LocalSteps computes"),
]


@pytest.mark.parametrize(("make", "reason"), REFUSED)
def test_what_cannot_be_together_is_by_itself_to_the_bit(
    make: Any, reason: str
) -> None:
    oracles = make()
    found = run(oracles, rounds=6)
    assert reason in found.not_batched
    expected = run(oracles, rounds=6, batched=False)
    assert found.theta.tobytes() == expected.theta.tobytes()
    with pytest.raises(NotTogetherError, match=reason):
        run(oracles, rounds=6, batched=True)


def test_buffers_and_data_that_are_no_tensors_are_refused() -> None:
    rich = oracles_of(Rich().eval())
    first = rich[0].buffers()
    assert run(rich, rounds=2, buffers=first).not_batched == "the model has buffers"
    with pytest.raises(ValueError, match="batched cannot move the model's 12 buffer"):
        run(rich, rounds=2, buffers=first, batched=True)
    model = network()
    noisy = [
        TorchOracle(model, cross_entropy, Augmented(), 4, device="cpu")
        for _ in range(2)
    ]
    assert "not tensors" in run(noisy, rounds=2).not_batched


def test_examples_of_several_shapes_are_refused() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(4, 3))
    oracles = [
        TorchOracle(
            model,
            cross_entropy,
            TensorDataset(torch.ones(9, 1, width), torch.zeros(9, dtype=torch.int64)),
            3,
            device="cpu",
        )
        for width in (4, 5)
    ]
    assert "several shapes" in run(oracles, rounds=2).not_batched


class OwnGradient(TorchOracle):
    def gradient(self, theta: F32, batch: Any) -> F32:
        return super().gradient(theta, batch) * np.float32(2)


def test_a_gradient_of_ones_own_is_used() -> None:
    model = network()
    oracles: list[Oracle] = [
        OwnGradient(model, cross_entropy, points(seed=m), 8, device="cpu")
        for m in range(2)
    ]
    assert "gradient of their own" in run(oracles, rounds=2).not_batched


def test_on_cuda_together_is_by_itself_to_rounding() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model = network()
    oracles = [
        TorchOracle(model, cross_entropy, points(seed=m), 8, device="cuda")
        for m in range(WORKERS)
    ]
    together, by_itself = run(oracles), run(oracles, batched=False)
    assert together.not_batched == ""
    np.testing.assert_allclose(together.theta, by_itself.theta, rtol=1e-4, atol=1e-5)
