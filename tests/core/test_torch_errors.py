"""What TorchOracle refuses, and without torch."""

import subprocess
import sys
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra torch")

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
)

from lasg_flwr import NonFiniteGradientError, simulate
from lasg_flwr.clients import TorchOracle
from tests.problems.torch_oracles import RNG, oracle_of, points


@pytest.fixture(autouse=True)
def seeds() -> None:
    torch.manual_seed(0)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": TensorDataset(torch.zeros(0, 4))}, "the data set is empty"),
        ({"batch_size": None}, "needs a batch_size"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"weight_decay": -1.0}, "weight_decay must be finite and >= 0, got -1.0"),
        ({"data": Endless()}, "pass a map-style Dataset"),
        (
            {"data": DataLoader(points(), sampler=WeightedRandomSampler([1] * 30, 5))},
            "WeightedRandomSampler",
        ),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        oracle_of(**options)


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match="no parameter of the model needs a gradient"):
        oracle_of(nn.Linear(4, 3).requires_grad_(False))


def test_vectors_of_another_model_are_refused() -> None:
    oracle = oracle_of()
    batch = oracle.draw(RNG(0))
    with pytest.raises(ValueError, match=r"parameter vector of shape \(3,\)"):
        oracle.gradient(np.zeros(3, np.float32), batch)
    with pytest.raises(ValueError, match=r"buffer vector of shape \(3,\)"):
        oracle.load_buffers(np.zeros(3, np.float32))


def test_a_class_and_a_name_are_no_model_and_no_loss() -> None:
    with pytest.raises(TypeError, match=r"a torch\.nn\.Module object, got <class"):
        TorchOracle(cast(Any, nn.Linear), cross_entropy, points(), 8, device="cpu")
    with pytest.raises(TypeError, match=r"loss must be callable .*, got 'ce'"):
        TorchOracle(nn.Linear(4, 3), cast(Any, "ce"), points(), 8, device="cpu")


def test_bad_losses_are_refused() -> None:
    def unreduced(output: Any, target: Any) -> Any:
        return cross_entropy(output, target, reduction="none")

    oracle = TorchOracle(nn.Linear(4, 3), unreduced, points(), 8, device="cpu")
    with pytest.raises(ValueError, match=r"shape \(8,\), expected a scalar"):
        oracle.gradient(oracle.theta(), oracle.draw(RNG(0)))
    with pytest.raises(ValueError, match=r"no test data.* fraction_evaluate=0\.0"):
        oracle.evaluate(oracle.theta())
    infinite = TensorDataset(torch.full((9, 4), torch.inf), torch.zeros(9).long())
    oracle = oracle_of(data=infinite)
    with pytest.raises(NonFiniteGradientError, match="worker 0 in round 0"):
        simulate([oracle], oracle.theta(), rounds=1, buffers=oracle.buffers())


def test_batches_of_another_form_need_forward() -> None:
    class Named(Dataset[Any]):
        def __len__(self) -> int:
            return 9

        def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
            x, y = points()[i]
            return {"x": x, "y": y}

    model = nn.Linear(4, 3)
    oracle = oracle_of(model, data=Named())
    with pytest.raises(TypeError, match="pass forward="):
        oracle.gradient(oracle.theta(), oracle.draw(RNG(0)))
    told = oracle_of(model, data=Named(), forward=lambda m, b: (m(b["x"]), b["y"]))
    plain = oracle_of(model, data=TensorDataset(*points()[:9]))
    batch = told.draw(RNG(0))
    np.testing.assert_array_equal(
        told.gradient(told.theta(), batch), plain.gradient(told.theta(), batch)
    )


def test_the_clients_load_torch_only_for_the_oracle() -> None:
    code = (
        "import sys, lasg_flwr.clients as c\n"
        "before = 'torch' in sys.modules\n"
        "c.TorchOracle\n"
        "print(before, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_without_torch_the_error_names_it() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from lasg_flwr.clients import TorchOracle"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install torch" in done.stderr
