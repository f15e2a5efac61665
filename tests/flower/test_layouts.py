"""Server and client must hold the same model, its arrays in the same order."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from flwr.client import ClientApp
from numpy.typing import NDArray

from experiments.inprocess import InProcessGrid
from lasg_flwr import AllNodesFailedError, LasgError
from lasg_flwr.layout import Layout
from lasg_flwr.strategies import LasgStrategy
from tests.problems.flower_app import client_fn_of
from tests.problems.least_squares import LeastSquares, least_squares

pytestmark = pytest.mark.flower
ORACLES = least_squares(workers=2, size=8)


def _named(**shapes: Any) -> dict[str, NDArray[Any]]:
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


SERVER = _named(a=(2, 2), b=(4,))


@pytest.mark.parametrize(
    ("client", "detail"),
    [
        (_named(b=(4,), a=(2, 2)), "'a' of shape (2, 2) to the server and 'b' of"),
        (_named(a=(4,), b=(2, 2)), "'a' of shape (4,) here"),
        (_named(a=(2, 2)), "and missing here"),
        (_named(a=(2, 2), b=(4,), c=(1,)), "missing to the server"),
        (_named(a=(2, 2), b=(5,)), "'b' of shape (5,) here"),
    ],
)
def test_another_model_or_order_is_refused(
    client: Mapping[str, NDArray[Any]], detail: str
) -> None:
    with pytest.raises(LasgError, match="in another order") as caught:
        Layout.of(SERVER).check_same(Layout.of(client))
    assert detail in str(caught.value)


@pytest.mark.parametrize(
    "client",
    [
        SERVER,
        {"0": SERVER["a"], "1": SERVER["b"]},
        {f"module.{name}": array for name, array in SERVER.items()},
        {"n": np.array(3), **SERVER},
        {name: array.astype(np.float16) for name, array in SERVER.items()},
    ],
)
def test_the_same_model_under_other_names_is_the_same(
    client: Mapping[str, NDArray[Any]],
) -> None:
    Layout.of(SERVER).check_same(Layout.of(client))


def test_two_layers_of_one_shape_in_another_order_are_noticed() -> None:
    server, client = _named(a=(3,), b=(3,)), _named(b=(3,), a=(3,))
    with pytest.raises(LasgError, match="in another order"):
        Layout.of(server).check_same(Layout.of(client))


def test_a_buffer_that_the_server_takes_for_a_parameter_names_the_remedy() -> None:
    """As the positional encoding of a transformer."""
    arrays = _named(pe=(3,), w=(3,))
    client = Layout.of(arrays, buffers=["pe"])
    with pytest.raises(LasgError, match=r"'pe' is a parameter .*buffers=\[\.\.\.\]"):
        Layout.of(arrays).check_same(client)
    Layout.of(arrays, buffers=["pe"]).check_same(client)


@pytest.mark.parametrize(
    "name",
    [
        *("bn.running_mean", "bn.running_var", "bn/moving_variance", "moving_mean:0"),
        *("batch_stats/BatchNorm_0/var", "batch_stats.BatchNorm_0.mean"),
        *("net/~/batch_norm/~/var_ema/average", "bn/moving_var"),
    ],
)
def test_statistics_of_known_frameworks_are_buffers(name: str) -> None:
    arrays = {name: np.ones(3, np.float32), "w": np.ones(3, np.float32)}
    kinds = {e.name: e.kind for e in Layout.of(arrays).entries}
    assert kinds == {name: "buffer", "w": "parameter"}


def test_a_client_of_another_order_trains_nothing() -> None:
    class Ordered(LeastSquares):
        layout = Layout.of(_named(second=(4,), first=(4,)))

    def oracle_of(i: int) -> Ordered:
        return Ordered(ORACLES[i].x, ORACLES[i].y)

    grid = InProcessGrid(ClientApp(client_fn_of(oracle_of)), 2)
    zeros = np.zeros(4, np.float32)
    start = ArrayRecord({"first": Array(zeros), "second": Array(zeros)})
    with pytest.raises(AllNodesFailedError, match="in another order"):
        LasgStrategy("sgd", step=0.05).start(grid, start, 5)
    assert len(grid.requests) <= 2 * 3
