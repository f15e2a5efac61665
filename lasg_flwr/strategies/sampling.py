"""Waiting for nodes, and drawing a repeatable sample of them."""

import time
from collections.abc import Callable, Iterable
from logging import INFO

from flwr.common import log

from ..random import keyed_generator

SAMPLING = 2
"""The generator stream of node samples."""


def wait_for_nodes(
    get_node_ids: Callable[[], Iterable[int]], minimum: int, poll_seconds: float = 1.0
) -> list[int]:
    """Return all connected nodes once at least `minimum` are."""
    while len(nodes := list(get_node_ids())) < minimum:
        log(
            INFO,
            "Waiting for nodes to connect: %d connected (minimum required: %d).",
            len(nodes),
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
