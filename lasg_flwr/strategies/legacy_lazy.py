"""LegacyLazyFedAvg: in the place of `flwr.server.strategy.FedAvg`."""

from typing import Any

from .efforts import Effort, settings_for
from .legacy import LegacyLasgStrategy


class LegacyLazyFedAvg(LegacyLasgStrategy):
    """Federated averaging of coded updates for ``server_fn`` and ``start_server``.

    What `LazyFedAvg` is for the Message API; see there.

    Parameters
    ----------
    effort : {"one-run", "two-runs"} (default: "one-run")
        How often a client trains in a round, see `LazyFedAvg`.
    **options
        The arguments of Flower's older `FedAvg`, and those of `LegacyLasgStrategy`.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `LegacyLasgStrategy` does.

    Examples
    --------
    ::

        strategy = LegacyLazyFedAvg(fraction_fit=0.5)  # instead of FedAvg(...)
        app = ClientApp(client_fn, mods=[lasg_mod])    # instead of ClientApp(client_fn)
    """

    def __init__(self, *, effort: Effort = "one-run", **options: Any) -> None:
        super().__init__(**settings_for(effort, options))
        self.effort = effort

    def __repr__(self) -> str:
        return f"LegacyLazyFedAvg(effort={self.effort!r})"
