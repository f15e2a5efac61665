"""Lazily aggregated stochastic gradients (LASG) for Flower.

The algorithms are those of T. Chen, Y. Sun and W. Yin, "Communication-Adaptive
Stochastic Gradient Methods for Distributed Learning", IEEE Transactions on Signal
Processing 69, 2021; the numbers of equations in this package are the paper's.

The core (everything but :mod:`lasg_flwr.clients`, :mod:`lasg_flwr.strategies`,
:mod:`lasg_flwr.flower` and :mod:`lasg_flwr.oracles.torch`) imports neither Flower nor
PyTorch. :mod:`lasg_flwr.reference` has every rule as a plain loop, on one page.
"""

from importlib.metadata import PackageNotFoundError, version

from .config import LasgConfig
from .errors import (
    AllNodesFailedError,
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
from .oracles import Oracle
from .protocol import LasgServer, LasgWorker
from .registry import register
from .simulation import SimulationResult, simulate

try:
    __version__ = version("lasg-flwr")
except PackageNotFoundError:  # the sources, not installed
    __version__ = "0+unknown"

__all__ = [
    "AllNodesFailedError",
    "CheckpointError",
    "CodecSizeError",
    "CompositionError",
    "DuplicateKeyError",
    "LasgConfig",
    "LasgError",
    "LasgServer",
    "LasgWorker",
    "NoWorkersError",
    "NonFiniteGradientError",
    "Oracle",
    "SimulationResult",
    "StateInUseError",
    "WireError",
    "__version__",
    "register",
    "simulate",
]
