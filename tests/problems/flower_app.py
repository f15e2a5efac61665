"""Clients with least squares on five devices, and a model in three arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.client import Client

from lasg_flwr.clients import LasgNumPyClient
from lasg_flwr.oracles.base import Oracle
from tests.problems.least_squares import LeastSquares, least_squares

ClientFn = Callable[[Context], Client]
ORACLES = least_squares(workers=5)
SIZE = ORACLES[0].size


def client_fn_of(oracles: Callable[[int], Oracle]) -> ClientFn:
    """Return what builds the client of a partition's oracle, anew for every message."""

    def client_fn(context: Context) -> Client:
        oracle = oracles(int(context.node_config["partition-id"]))
        return LasgNumPyClient(oracle, context).to_client()

    return client_fn


client_fn = client_fn_of(ORACLES.__getitem__)


def one_differs(kind: type[LeastSquares]) -> ClientFn:
    """Return the clients, of which the second's oracle is of another `kind`."""
    data = ORACLES[1]
    return client_fn_of(lambda i: kind(data.x, data.y) if i == 1 else ORACLES[i])


def vector_of(size: int) -> ArrayRecord:
    """A model of one vector, at 0."""
    return ArrayRecord({"theta": Array(np.zeros(size, np.float32))})


def initial_arrays() -> ArrayRecord:
    """A model of one float64 matrix and one vector, with a counter in between."""
    return ArrayRecord(
        {
            "layer.weight": Array(np.zeros((2, 2))),
            "layer.steps": Array(np.array(7)),
            "layer.bias": Array(np.zeros(SIZE - 4, np.float32)),
        }
    )


def flat(arrays: ArrayRecord) -> Any:
    named = {name: array.numpy() for name, array in arrays.items()}
    return np.concatenate([named["layer.weight"].ravel(), named["layer.bias"]]).astype(
        np.float32
    )
