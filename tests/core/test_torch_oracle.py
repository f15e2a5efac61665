"""TorchOracle: gradients, repeatability, and what it makes of models and data."""

import copy
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra torch")

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import (
    DataLoader,
    TensorDataset,
)

from lasg_flwr.layout import Layout
from lasg_flwr.oracles.base import Oracle
from lasg_flwr.oracles.seeding import host_seeded
from lasg_flwr.oracles.torch.seed import seeded
from lasg_flwr.vectors import F32
from tests.problems.torch_oracles import RNG, Augmented, Rich, oracle_of, points


@pytest.fixture(autouse=True)
def seeds() -> None:
    torch.manual_seed(0)


def test_it_is_an_oracle() -> None:
    oracle = oracle_of()
    assert isinstance(oracle, Oracle)
    assert oracle.num_examples == 30
    assert (
        oracle.size
        == oracle.theta().size
        == sum(p.numel() for p in Rich().parameters())
    )
    assert oracle.buffers().tolist() == [0.0] * 6 + [1.0] * 6
    assert oracle.buffer_names == ("norm.running_mean", "norm.running_var")
    assert oracle.layout == Layout.of(oracle.arrays)


def test_the_gradient_equals_one_written_by_hand() -> None:
    """Softmax regression with decay: ((p − y) xᵀ / b, p − y / b) + λθ."""
    oracle = oracle_of(nn.Linear(4, 3), weight_decay=0.1)
    theta = RNG(1).normal(size=15).astype(np.float32)
    batch = oracle.draw(RNG(2))
    x, y = (t.numpy()[batch.indices].astype(np.float64) for t in points().tensors)
    weight, bias = theta[:12].reshape(3, 4), theta[12:]
    logits = x @ weight.T + bias
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = (p - np.eye(3)[y.astype(int)]) / 8
    expected = np.concatenate([(error.T @ x).ravel(), error.sum(axis=0)])
    found = oracle.gradient(theta, batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected + 0.1 * theta, atol=1e-6)


def test_the_gradient_equals_autograd_of_the_loss_with_decay() -> None:
    model = Rich()
    oracle = oracle_of(copy.deepcopy(model), weight_decay=0.01)
    theta, batch = oracle.theta(), oracle.draw(RNG(0))
    x, y = points()[batch.indices]
    torch.manual_seed(batch.seed)
    loss = cross_entropy(model(x), y)
    trained = [p for p in model.parameters() if p.requires_grad]
    loss = loss + 0.005 * torch.stack([(p**2).sum() for p in trained]).sum()
    found = iter(torch.autograd.grad(loss, trained, allow_unused=True))
    parts = [next(found) if p.requires_grad else None for p in model.parameters()]
    expected = np.concatenate(
        [
            np.zeros(p.numel()) if part is None else part.numpy().ravel()
            for p, part in zip(model.parameters(), parts, strict=True)
        ]
    )
    np.testing.assert_allclose(oracle.gradient(theta, batch), expected, atol=1e-6)
    names = {e.name: e for e in oracle.layout.entries}
    named = oracle.layout.unflatten(
        oracle.gradient(theta, batch), oracle.buffers(), bytes(8)
    )
    assert names["frozen.weight"].kind == "parameter"
    assert not named["frozen.weight"].any()
    np.testing.assert_allclose(named["unused"], 0.01)


@pytest.mark.parametrize("data", [points(), Augmented()])
def test_the_same_batch_gives_the_same_bits(data: Any) -> None:
    oracle = oracle_of(data=data)
    theta, first = oracle.theta(), oracle.buffers()
    batch = pickle.loads(pickle.dumps(oracle.draw(RNG(3))))
    found = []
    for _ in range(3):
        oracle.load_buffers(first)
        found.append((oracle.gradient(theta, batch), oracle.buffers()))
        random.random(), np.random.rand(), torch.rand(3)  # noqa: NPY002
        oracle.gradient(theta + 1, oracle.draw(RNG(4)))
    for gradient, buffers in found[1:]:
        np.testing.assert_array_equal(gradient, found[0][0])
        np.testing.assert_array_equal(buffers, found[0][1])
    other = oracle.gradient(theta, batch._replace(seed=batch.seed + 1))
    assert (other != found[0][0]).any()
    assert (found[0][1] != first).any()


def test_the_callers_generators_are_not_disturbed() -> None:
    oracle = oracle_of(data=Augmented(), test=Augmented())
    batch = oracle.draw(RNG(0))

    def draws() -> tuple[Any, ...]:
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    random.seed(5), np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002
    expected = draws()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002
    oracle.gradient(oracle.theta(), batch)
    oracle.evaluate(oracle.theta())
    assert draws() == expected


@pytest.mark.parametrize("drawn", range(4))
@pytest.mark.parametrize("normals", range(3))
def test_numpys_kept_normal_number_is_not_disturbed(drawn: int, normals: int) -> None:
    """The polar method makes two and keeps one, which is not in the words."""
    expected, found = np.random.RandomState(5), np.random
    np.random.seed(5)  # noqa: NPY002
    for generator in (expected, found):
        generator.standard_normal(drawn)
    with host_seeded(3):
        inside = np.random.standard_normal(normals)  # noqa: NPY002
    np.testing.assert_array_equal(
        inside,
        np.random.RandomState(3).standard_normal(normals),
    )
    for generator in (expected, found):
        generator.rand()
    assert (found.standard_normal(3) == expected.standard_normal(3)).all()


def test_oracles_of_one_module_keep_apart_though_they_share_memory() -> None:
    module = nn.Linear(4, 3)
    first, second = (oracle_of(module, data=points(seed=s)) for s in (1, 2))
    alone = [oracle_of(copy.deepcopy(module), data=points(seed=s)) for s in (1, 2)]
    theta, batch = first.theta() + 1, first.draw(RNG(0))
    together = [first.gradient(theta, batch), second.gradient(theta - 2, batch)]
    np.testing.assert_array_equal(together[0], alone[0].gradient(theta, batch))
    np.testing.assert_array_equal(together[1], alone[1].gradient(theta - 2, batch))


def test_the_generator_of_the_devices_own_number_is_seeded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in for ``torch.cuda`` with two devices, the first being current."""
    states = {0: 10, 1: 11}
    current = [0]

    @contextmanager
    def device(which: torch.device) -> Iterator[None]:
        before, current[0] = current[0], which.index
        yield
        current[0] = before

    module = SimpleNamespace(
        device=device,
        get_rng_state=lambda which: states[torch.device(which).index],
        set_rng_state=lambda state, which: states.update(
            {torch.device(which).index: state}
        ),
        manual_seed=lambda seed: states.update({current[0]: seed}),
    )
    monkeypatch.setattr(torch, "get_device_module", lambda which: module)
    with seeded(7, torch.device("cuda", 1)):
        assert states == {0: 10, 1: 7}
    assert states == {0: 10, 1: 11}


def test_batches_are_drawn_without_replacement() -> None:
    oracle = oracle_of(batch_size=30)
    assert sorted(oracle.draw(RNG(0)).indices.tolist()) == list(range(30))
    assert oracle_of(batch_size=100).batch_size == 30


def test_a_loader_gives_dataset_batch_size_and_collate() -> None:
    def shifted(examples: list[Any]) -> Any:
        x, y = zip(*examples, strict=True)
        return torch.stack(x) + 1, torch.stack(y)

    plain, model = oracle_of(nn.Linear(4, 3)), nn.Linear(4, 3)
    loader = DataLoader(points(), batch_size=5, shuffle=True, collate_fn=shifted)
    oracle = oracle_of(model, data=loader, batch_size=None)
    assert oracle.batch_size == 5
    theta, batch = oracle.theta(), oracle.draw(RNG(0))
    moved = TensorDataset(points().tensors[0] + 1, points().tensors[1])
    expected = oracle_of(model, data=moved).gradient(theta, batch)
    np.testing.assert_array_equal(oracle.gradient(theta, batch), expected)
    assert (plain.gradient(theta, batch) != expected).any()


def test_modes_are_those_that_the_modules_were_given_in() -> None:
    model = Rich()
    model.norm.eval()
    oracle = oracle_of(model, test=points())
    oracle.evaluate(oracle.theta())
    oracle.gradient(oracle.theta(), oracle.draw(RNG(0)))
    assert model.training
    assert not model.norm.training
    assert oracle.buffers().tolist() == [0.0] * 6 + [1.0] * 6


def test_evaluation_is_exact_and_without_dropout() -> None:
    model = Rich().eval()
    oracle = oracle_of(Rich(), test=points(17, seed=1))
    theta = oracle.theta()
    model.load_state_dict({k: torch.tensor(v) for k, v in oracle.arrays.items()})
    x, y = points(17, seed=1).tensors
    output = model(x)
    loss, examples, metrics = oracle.evaluate(theta)
    assert loss == pytest.approx(cross_entropy(output, y).item(), rel=1e-6)
    assert examples == 17
    assert metrics == {"accuracy": int((output.argmax(1) == y).sum()) / 17}


def test_half_precision_has_a_float32_vector() -> None:
    oracle = oracle_of(
        nn.Linear(4, 3, dtype=torch.bfloat16),
        data=TensorDataset(points().tensors[0].bfloat16(), points().tensors[1]),
    )
    gradient = oracle.gradient(oracle.theta(), oracle.draw(RNG(0)))
    assert gradient.dtype == oracle.theta().dtype == np.float32
    assert gradient.any()


def test_of_a_tied_parameter_the_last_name_counts() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4, bias=False)
            self.b = nn.Linear(4, 4, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.b(torch.tanh(self.a(x)))
            return output

    oracle = oracle_of(Tied())
    theta, batch = oracle.theta(), oracle.draw(RNG(0))
    gradient = oracle.gradient(theta, batch)
    assert oracle.size == 32
    assert not gradient[:16].any()
    step = np.zeros(32, np.float32)
    step[16] = 1e-2
    x, y = points()[batch.indices]

    def loss(at: F32) -> float:
        w = torch.tensor(at[16:].reshape(4, 4))
        return float(cross_entropy(torch.tanh(x @ w.T) @ w.T, y))

    slope = (loss(theta + step) - loss(theta - step)) / 2e-2
    assert gradient[16] == pytest.approx(slope, abs=1e-4)


def test_theta_and_buffers_go_back_into_the_model() -> None:
    oracle, model = oracle_of(), Rich()
    theta = RNG(3).normal(size=oracle.size).astype(np.float32)
    buffers = np.arange(12, dtype=np.float32)
    model.load_state_dict(oracle.state_dict(theta, buffers))
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert oracle.layout.flatten(state, "parameter").tobytes() == theta.tobytes()
    assert oracle.layout.flatten(state, "buffer").tobytes() == buffers.tobytes()
    own = oracle.state_dict(theta)["norm.running_var"]
    assert own.tolist() == [1.0] * 6
