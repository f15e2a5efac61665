"""Servers for tests, by the options of their config."""

from typing import Any

from numpy.typing import NDArray

from lasg_flwr import LasgConfig, LasgServer
from lasg_flwr.protocol import Slot
from lasg_flwr.protocol.versions import NO_FORM, Form


def server_for(
    theta: NDArray[Any],
    rule: Any = "wk2",
    codec: Any = "dense",
    *,
    buffers: NDArray[Any] | None = None,
    form: Form = NO_FORM,
    **options: Any,
) -> LasgServer:
    """Return a server of a config with these options."""
    config = LasgConfig(rule, codec, **options)
    return LasgServer(theta, config, buffers=buffers, form=form)


def h_of(slot: Slot) -> Any:
    """Return h_m of a worker's slot, or e_m if its upload is accepted; None if none."""
    kept = slot.memory
    return kept.accepted if hasattr(kept, "accepted") else getattr(kept, "h", None)
