"""Five devices with least squares, and a model in three arrays."""

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.client import Client

from lasg_flwr.clients import LasgNumPyClient
from tests.problems.least_squares import least_squares

ORACLES = least_squares(workers=5)
SIZE = ORACLES[0].size


def client_fn(context: Context) -> Client:
    oracle = ORACLES[int(context.node_config["partition-id"])]
    return LasgNumPyClient(oracle, context).to_client()


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
