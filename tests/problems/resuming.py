"""Strategies whose runs are stopped and resumed, and all that must be equal then."""

from typing import Any

from lasg_flwr.optim import AMSGrad
from lasg_flwr.protocol.saving import capture
from lasg_flwr.rules import PS, WK1
from lasg_flwr.strategies import LasgStrategy

OPTIONS: dict[str, dict[str, Any]] = {
    "wk2 topk": {"rule": "wk2", "codec": "topk:k=2"},
    "wk1 sum-only": {
        "rule": WK1(max_delay=12),
        "codec": "topk:k=2",
        "server_memory": "sum-only",
    },
    "pse amsgrad": {"rule": "pse", "step": AMSGrad(0.05)},
    "ps gradient": {"rule": PS(smoothness=1.5), "memory": "gradient"},
    "error memory, k by device": {
        "rule": "sgd",
        "codec": "topk:k=1;topk:k=2;topk:fraction=0.5",
        "memory": "error",
    },
    "lag examples, bounded": {"rule": "lag", "weights": "examples", "norm_bound": 1e6},
}


class Stop(Exception):
    """The ServerApp dies."""


def everything(strategy: LasgStrategy) -> tuple[dict[str, bytes], dict[str, Any]]:
    """All that a checkpoint holds; ids differ, as they hash the session.

    Nor do whole messages compare: their numbers and times have other lengths; and an
    evaluation that comes after the last checkpoint is not in it.
    """
    arrays, meta = capture(strategy.server)
    state = meta["state"]["fields"]
    for record in state["workers"]:
        assert record["fields"].pop("id") is not None
    for name in ("uplink_message_bytes", "downlink_message_bytes"):
        assert state["ledger"]["fields"].pop(name) > 0
    for name in ("evaluation_bytes", "evaluation_message_bytes", "skip_message_bytes"):
        state["ledger"]["fields"].pop(name)
    state["ledger"]["fields"].pop("sgd_evaluation_bytes")
    return {n: a.tobytes() for n, a in arrays.items()}, meta
