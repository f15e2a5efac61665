"""Flower clients: `lasg_mod` and `lasg_client` for what exists, and new ones.

`LasgNumPyClient` serves an oracle of your own, or a `TorchOracle`.
"""

from typing import TYPE_CHECKING, Any

from .lazy_client import lasg_client
from .mod import lasg_mod
from .numpy_client import LasgNumPyClient, worker_key

if TYPE_CHECKING:
    from ..oracles.torch import TorchOracle

__all__ = [
    "LasgNumPyClient",
    "TorchOracle",
    "lasg_client",
    "lasg_mod",
    "worker_key",
]


def __getattr__(name: str) -> Any:
    """Import `TorchOracle` when it is first used: nothing else needs PyTorch."""
    if name != "TorchOracle":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from ..oracles.torch import TorchOracle
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError("TorchOracle needs PyTorch: pip install torch") from error
    return TorchOracle
