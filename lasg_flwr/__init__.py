"""Lazily aggregated stochastic gradients (LASG) for Flower.

The algorithms are those of T. Chen, Y. Sun and W. Yin, "Communication-Adaptive
Stochastic Gradient Methods for Distributed Learning", IEEE Transactions on Signal
Processing 69, 2021; the numbers of equations in this package are the paper's.

The core (everything but :mod:`lasg_flwr.clients`, :mod:`lasg_flwr.strategies`,
:mod:`lasg_flwr.records` and :mod:`lasg_flwr.traffic`) imports neither Flower nor
PyTorch.
"""

from .errors import (
    CheckpointError,
    CodecSizeError,
    CompositionError,
    DuplicateKeyError,
    LasgError,
    NonFiniteGradientError,
    NoWorkersError,
    StateInUseError,
    WireError,
)
from .oracle import Oracle
from .server import LasgServer
from .simulation import SimulationResult, simulate
from .worker import LasgWorker

__all__ = [
    "CheckpointError",
    "CodecSizeError",
    "CompositionError",
    "DuplicateKeyError",
    "LasgError",
    "LasgServer",
    "LasgWorker",
    "NoWorkersError",
    "NonFiniteGradientError",
    "Oracle",
    "SimulationResult",
    "StateInUseError",
    "WireError",
    "simulate",
]
