"""Flower strategies: `LazyFedAvg` in FedAvg's place, `LasgStrategy` for the rest.

The two with `Legacy` before them are for projects with ``server_fn`` or
``start_server``.
"""

from .lasg import LasgStrategy
from .lazy_fedavg import LazyFedAvg
from .legacy import LegacyLasgStrategy
from .legacy_lazy import LegacyLazyFedAvg
from .reports import LasgResult

__all__ = [
    "LasgResult",
    "LasgStrategy",
    "LazyFedAvg",
    "LegacyLasgStrategy",
    "LegacyLazyFedAvg",
]
