"""TorchOracle with the engine and with Flower: plain SGD, and equal bits."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra torch")

import torch
from flwr.app import ArrayRecord
from flwr.client import ClientApp
from torch import nn
from torch.nn.functional import cross_entropy

from experiments.inprocess import InProcessGrid
from lasg_flwr import simulate
from lasg_flwr.clients import TorchOracle
from lasg_flwr.random import keyed_generator
from lasg_flwr.strategies import LasgStrategy
from lasg_flwr.vectors import F32
from tests.problems.flower_app import client_fn_of
from tests.problems.torch_oracles import Rich, oracle_of, points


@pytest.fixture(autouse=True)
def seeds() -> None:
    torch.manual_seed(0)


def sgd_loop(oracles: list[TorchOracle], model: nn.Module, rounds: int) -> F32:
    """Train by plain PyTorch on the batches that the engine draws."""
    parameters = list(model.parameters())
    for k in range(rounds):
        losses = []
        for m, oracle in enumerate(oracles):
            x, y = points(seed=m)[oracle.draw(keyed_generator(0, m, k)).indices]
            losses.append(cross_entropy(model(x), y))
        loss = torch.stack(losses).mean()
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.data -= 0.1 * (g + 0.01 * p.data)
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ELU(), nn.Linear(8, 3))


def workers(count: int = 3) -> list[TorchOracle]:
    model = network()
    return [
        oracle_of(model, data=points(seed=m), weight_decay=0.01) for m in range(count)
    ]


def test_always_is_plain_sgd_to_rounding() -> None:
    oracles = workers()
    found = simulate(oracles, oracles[0].theta(), rounds=50, rule="sgd", step=0.1)
    expected = sgd_loop(oracles, network(), 50)
    np.testing.assert_allclose(found.theta, expected, atol=2e-6)
    lazy = simulate(oracles, oracles[0].theta(), rounds=50, rule="wk2", step=0.1)
    assert lazy.ledger.uploads < found.ledger.uploads
    assert (lazy.theta != found.theta).any()


@pytest.mark.parametrize("rule", ["wk2", "pse"])
def test_flower_and_the_engine_give_the_same_bits(rule: str) -> None:
    def make() -> list[TorchOracle]:
        torch.manual_seed(2)
        model = Rich()
        return [oracle_of(model, data=points(seed=m)) for m in range(3)]

    oracles = make()
    direct = simulate(
        oracles, oracles[0].theta(), rounds=8, rule=rule, step=0.1,
        buffers=oracles[0].buffers(),
    )  # fmt: skip
    clients = make()
    app = ClientApp(client_fn=client_fn_of(clients.__getitem__))
    strategy = LasgStrategy(rule=rule, step=0.1, fraction_evaluate=0.0)
    start = ArrayRecord({k: _flower(v) for k, v in clients[0].arrays.items()})
    result = strategy.start(InProcessGrid(app, 3), start, num_rounds=8)
    arrays = {name: array.numpy() for name, array in result.arrays.items()}
    layout = oracles[0].layout
    np.testing.assert_array_equal(layout.flatten(arrays, "parameter"), direct.theta)
    np.testing.assert_array_equal(
        layout.flatten(arrays, "buffer"), direct.server.buffers
    )


def _flower(values: Any) -> Any:
    from flwr.app import Array

    return Array(values)
