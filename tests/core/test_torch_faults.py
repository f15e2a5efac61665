"""Layers that thaw, sparse gradients, one logit, and losses that are classes."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", exc_type=ImportError)
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.data import TensorDataset  # noqa: E402

from lasg_flwr.clients import TorchOracle  # noqa: E402


def _oracle(model: Any, loss: Any, x: Any, y: Any, **options: Any) -> TorchOracle:
    data = TensorDataset(x, y)
    return TorchOracle(model, loss, data, len(data), test=data, device="cpu", **options)


def _gradient(oracle: TorchOracle) -> Any:
    batch = oracle.draw(np.random.default_rng(0))
    return oracle.gradient(oracle.theta(), batch)


def test_a_layer_may_thaw_and_freeze() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    x, y = torch.randn(4, 3), torch.randn(4, 1)
    oracle = _oracle(model, functional.mse_loss, x, y, weight_decay=0.1)
    first = slice(0, 8)
    assert not _gradient(oracle)[first].any()
    model[0].requires_grad_(True)
    thawed = _gradient(oracle)
    fresh = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    fresh.load_state_dict(model.state_dict())
    expected = _gradient(_oracle(fresh, functional.mse_loss, x, y, weight_decay=0.1))
    assert thawed[first].all()
    assert np.array_equal(thawed, expected)
    model[0].requires_grad_(False)
    assert not _gradient(oracle)[first].any()


def test_a_model_that_was_frozen_altogether_is_an_error() -> None:
    model = nn.Linear(3, 1)
    oracle = _oracle(model, functional.mse_loss, torch.ones(4, 3), torch.ones(4, 1))
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the model needs a gradient"):
        _gradient(oracle)


def test_a_sparse_embedding_has_the_gradient_of_a_dense_one() -> None:
    found = []
    for sparse in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(6, 2, sparse=sparse), nn.Flatten())
        x, y = torch.tensor([[1], [1], [4]]), torch.ones(3, 2)
        found.append(_gradient(_oracle(model, functional.mse_loss, x, y)))
    assert found[0].any()
    assert np.array_equal(*found)


class Given(nn.Module):
    """Outputs its inputs, times a weight of 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Any) -> Any:
        return x * self.weight


LOGITS = [-2.0, -0.5, 0.3, 1.5, 2.0]
CLASSES = [0, 1, 1, 1, 0]  # right: 3 of 5; the share of class 0 is 2 of 5
PROBABILITIES = [0.1, 0.4, 0.6, 0.9, 0.8]


def _bce(output: Any, target: Any) -> Any:
    return functional.binary_cross_entropy_with_logits(
        output.reshape(-1), target.float().reshape(-1)
    )


@pytest.mark.parametrize(
    ("loss", "values", "shape", "dtype"),
    [
        (_bce, LOGITS, (5, 1), torch.int64),
        (nn.BCEWithLogitsLoss(), LOGITS, (5, 1), torch.float32),
        (nn.BCEWithLogitsLoss(), LOGITS, (5,), torch.float32),
        (
            functional.binary_cross_entropy_with_logits,
            LOGITS,
            (5, 1),
            torch.float32,
        ),
        (nn.BCELoss(), PROBABILITIES, (5, 1), torch.float32),
        (functional.binary_cross_entropy, PROBABILITIES, (5,), torch.float32),
    ],
)
def test_the_accuracy_of_one_output_is_that_of_its_sign(
    loss: Any, values: list[float], shape: tuple[int, ...], dtype: Any
) -> None:
    x = torch.tensor(values).reshape(shape)
    y = torch.tensor(CLASSES, dtype=dtype)
    y = y if dtype == torch.int64 else y.reshape(shape)
    _, examples, metrics = _oracle(Given(), loss, x, y).evaluate(np.ones(1, "f4"))
    assert (examples, metrics) == (5, {"accuracy": 0.6})


def test_a_regression_has_no_accuracy() -> None:
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]])
    oracle = _oracle(Given(), functional.mse_loss, x, y)
    assert oracle.evaluate(np.ones(1, "f4"))[2] == {}


def test_a_loss_that_is_a_class_names_the_remedy() -> None:
    x, y = torch.ones(2, 3), torch.tensor([0, 1])
    with pytest.raises(TypeError, match=r"pass an object, CrossEntropyLoss\(\)"):
        _oracle(nn.Linear(3, 2), nn.CrossEntropyLoss, x, y)


@pytest.mark.parametrize("size", [4.0, "4", True, 0, -1])
def test_a_batch_size_that_is_no_integer_is_refused_at_once(size: Any) -> None:
    data = TensorDataset(torch.ones(8, 3), torch.zeros(8, dtype=torch.int64))
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1"):
        TorchOracle(nn.Linear(3, 2), functional.cross_entropy, data, size)
    good = TorchOracle(nn.Linear(3, 2), functional.cross_entropy, data, np.int64(4))  # type: ignore[arg-type]
    assert good.batch_size == 4
