"""Clients of Flower's older API: who is there, who failed, what they report."""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from logging import INFO, WARNING
from typing import Any

from flwr.common import EvaluateRes, FitRes, MetricsAggregationFn, NDArrays, Scalar, log
from flwr.common.constant import ErrorCode
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy

from ..checks import quoted
from ..errors import WireError
from ..flower import records
from ..flower.names import is_own
from ..protocol import LasgServer
from .failures import NOBODY

EvaluateFn = Callable[
    [int, NDArrays, dict[str, Scalar]], tuple[float, dict[str, Scalar]] | None
]
ConfigFn = Callable[[int], dict[str, Scalar]]


def node_of(cid: str) -> int:
    """Return the node number of a client id, which may be any text.

    Examples
    --------
    >>> node_of("123") == node_of("123") != node_of("124")
    True
    """
    return int.from_bytes(blake2b(cid.encode(), digest_size=8).digest(), "little")


def wait_for_clients(
    manager: ClientManager, needed: int, wait_seconds: float
) -> dict[int, ClientProxy]:
    """Return the clients, by node, once `needed` are there or the time is over."""
    if manager.num_available() < needed:  # a ServerApp's manager looks here
        log(INFO, "lasg: waiting for clients: %d are needed", needed)
    if not manager.wait_for(needed, timeout=int(wait_seconds)):
        log(
            WARNING,
            "lasg: only %d of %d clients are there after %g s: going on with them",
            manager.num_available(),
            needed,
            wait_seconds,
        )
    return {node_of(cid): proxy for cid, proxy in manager.all().items()}


def blamed(
    failure: tuple[ClientProxy, FitRes] | BaseException,
) -> tuple[int, str, int | None]:
    """Return node, reason and code of a failure; nobody is named for an exception."""
    if isinstance(failure, BaseException):
        return NOBODY, f"a client failed: {quoted(repr(failure), 1000)}", None
    proxy, result = failure
    code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    return node_of(proxy.cid), result.status.message, code


def counts(server: LasgServer, proxy: ClientProxy, result: EvaluateRes) -> bool:
    """Return whether an evaluation was made at the model that was meant."""
    if server.broadcast.model is None:
        return True
    try:
        reply = records.read_evaluate_result(result)
    except WireError as error:
        log(WARNING, "lasg: node %d: %s", node_of(proxy.cid), error)
        return False
    return reply is not None and server.broadcast.evaluated(node_of(proxy.cid), reply)


def aggregated(
    function: MetricsAggregationFn, pairs: list[tuple[int, dict[str, Scalar]]]
) -> dict[str, Scalar]:
    """Aggregate what clients report; it must not end the run."""
    try:
        return function(pairs)
    except Exception as error:
        log(WARNING, "lasg: metrics could not be aggregated: %s", quoted(repr(error)))
        return {}


def user_metrics(result: FitRes | EvaluateRes) -> dict[str, Scalar]:
    """Return a client's metrics without this package's, and without odd ones."""
    found = records.plain_metrics(result.metrics)
    return {name: value for name, value in found.items() if not is_own(name)}


def refuse_checkpoints(options: Mapping[str, Any]) -> None:
    """Raise ValueError if an option is one of `LasgStrategy`'s for checkpoints."""
    for name in ("checkpoint_dir", "checkpoint_every", "resume"):
        if name in options:
            raise ValueError(
                f"{name}: LegacyLasgStrategy has no checkpoints; leave {name} out, or "
                "use LasgStrategy"
            )
