"""Waiting for nodes, and drawing a repeatable sample of them."""

import time
from collections.abc import Callable, Iterable
from logging import INFO

from flwr.common import log

from ..errors import NoWorkersError
from ..random import keyed_generator

SAMPLING = 2
"""The generator stream of node samples."""


def wait_for_nodes(
    get_node_ids: Callable[[], Iterable[int]],
    minimum: int,
    poll_seconds: float = 1.0,
    wait_seconds: float | None = None,
) -> list[int]:
    """Return all connected nodes once at least `minimum` are.

    Parameters
    ----------
    get_node_ids : callable
        Returns the connected nodes.
    minimum : int
        How many must be.
    poll_seconds : float (default: 1.0)
        Time between two looks.
    wait_seconds : float, optional
        How long to wait; left out, for ever.

    Raises
    ------
    NoWorkersError
        If they are too few after `wait_seconds`.
    """
    start, said = time.monotonic(), -1
    while len(nodes := list(get_node_ids())) < minimum:
        if wait_seconds is not None and time.monotonic() - start >= wait_seconds:
            raise NoWorkersError(
                f"only {len(nodes)} of at least {minimum} nodes were connected for "
                f"{wait_seconds:g} s"
            )
        if len(nodes) != said:
            said = len(nodes)
            log(
                INFO,
                "Waiting for nodes to connect: %d connected (minimum required: %d).",
                said,
                minimum,
            )
        time.sleep(poll_seconds)
    return nodes


def sample(nodes: list[int], count: int, seed: int, round_: int) -> list[int]:
    """Return `count` of the nodes, drawn without replacement, in their order.

    Examples
    --------
    >>> sample([10, 20, 30], 2, seed=0, round_=5) == sample([10, 20, 30], 2, 0, 5)
    True
    >>> sample([10, 20], 5, seed=0, round_=0)
    [10, 20]
    """
    if count >= len(nodes):
        return list(nodes)
    rng = keyed_generator(seed, 0, round_, SAMPLING)
    chosen = rng.choice(len(nodes), count, replace=False)
    return [nodes[i] for i in sorted(chosen)]
