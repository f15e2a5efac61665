"""Nodes: waiting for them, sampling them, and noticing who has departed."""

import time
from collections.abc import Callable, Iterable
from logging import INFO

from flwr.common import log

from ..checks import whole
from ..errors import NoWorkersError
from ..protocol import LasgServer
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


class DepartedWorkers:
    """Takes a worker out once its node was away for a number of rounds in a row.

    Parameters
    ----------
    limit : int, optional
        Left out, the rule's `max_delay`.

    Attributes
    ----------
    last_seen : dict of int to int
        The round in which each worker was last connected; goes into checkpoints.
    """

    def __init__(self, limit: int | None) -> None:
        hint = "; None is the rule's max_delay"
        self._limit = (
            None if limit is None else whole("leave_after", limit, least=1, hint=hint)
        )
        self.last_seen: dict[int, int] = {}

    def note(self, server: LasgServer, connected: set[int]) -> None:
        """Look who is there before a round."""
        limit = self._limit or server.rule.max_delay
        for record in server.roster.sorted():
            if record.node in connected:
                self.last_seen[record.key] = server.round
            elif server.memory.in_sum(record) and record.id is not None:
                seen = max(self.last_seen.get(record.key, 0), record.round)
                if server.round - seen >= limit:
                    log(INFO, "lasg: worker %d has left", record.key)
                    server.leave(record.key)
