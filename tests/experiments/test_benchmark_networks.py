"""The benchmark of networks: what it times takes the same steps."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra torch")

import torch

from experiments.benchmark_networks import (
    bare_loop,
    gradients_by_vmap,
    gradients_in_turn,
    setup_of,
    timed,
)
from lasg_flwr import simulate
from lasg_flwr.oracles.torch import TorchOracle


class Fixed(TorchOracle):
    """Uses the batches that the bare loops are given, in their order."""

    drawn: Any

    def draw(self, rng: Any) -> Any:
        return next(self.drawn)

    def examples(self, batch: Any) -> Any:
        return batch[0]

    def gradient(self, theta: Any, batch: Any) -> Any:
        return self.compute(torch.from_numpy(theta.copy()), batch)[0].numpy()

    compute: Any


@pytest.mark.parametrize("rule", ["sgd", "wk2"])
def test_bare_loops_and_engine_take_the_same_steps(rule: str) -> None:
    setup = setup_of("cnn", workers=3, batch_size=4)
    batches = setup.batches(rounds=5)
    compute = gradients_in_turn(setup.network)
    oracles = []
    for m, (x, y) in enumerate(setup.data):
        data = torch.utils.data.TensorDataset(x, y)
        loss = torch.nn.functional.cross_entropy
        oracle = Fixed(setup.network, loss, data, 4, device="cpu")
        oracle.drawn = iter([[drawn[m]] for drawn in batches])
        oracle.compute = compute
        oracles.append(oracle)
    theta = oracles[0].theta()
    engine = simulate(oracles, theta, rounds=5, rule=rule, step=0.05)
    if rule == "wk2":
        assert 3 <= engine.ledger.uploads < 15
    for gradients in (compute, gradients_by_vmap(setup.network)):
        start = torch.from_numpy(theta.copy())
        found = bare_loop(setup, rule, batches, gradients, start).numpy()
        np.testing.assert_allclose(found, engine.theta, atol=1e-5)
        assert np.abs(found - theta).max() > 1e-3


def test_runs_are_timed_in_turn_and_the_first_is_left_out() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in ("a", "bare loop")}
    rows = timed("cnn", "sgd", runs, rounds=1, repeats=2)
    assert order == ["a", "bare loop"] * 3
    assert [row["what"] for row in rows] == ["a", "bare loop"]
    assert rows[1]["x_bare_loop"] == 1.0
