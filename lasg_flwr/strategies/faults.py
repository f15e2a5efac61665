"""Failing nodes: left alone for a growing time, and complained about once."""

import re
from collections.abc import Iterable
from logging import DEBUG, INFO, WARNING

from flwr.common import log

from ..messages import Reply
from ..server import LasgServer

LONGEST_PAUSE = 64
"""Rounds that a failing node is left alone for at most."""

_REASON_CHARACTERS = 300
_REASONS_PER_NODE = 16
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")


class Patience:
    """Leaves a node alone that failed `limit` times in a row: 1, 2, 4, ... rounds.

    Parameters
    ----------
    limit : int or None
        Failures in a row that are put up with; None never leaves a node alone.

    Examples
    --------
    >>> patience = Patience(limit=2)
    >>> [patience.failed(7, round_) for round_ in (0, 1)]
    [0, 1]
    >>> patience.reachable([7, 8], 2), patience.reachable([7, 8], 3)
    ([8], [7, 8])
    """

    def __init__(self, limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(
                f"fail_limit must be >= 1, got {limit!r}; None contacts failing nodes "
                "in every round"
            )
        self.limit = limit
        self._failures: dict[int, int] = {}
        self._resume: dict[int, int] = {}

    def failed(self, node: int, round_: int) -> int:
        """Count a failure; return for how many rounds the node is left alone now."""
        count = self._failures[node] = self._failures.get(node, 0) + 1
        if self.limit is None or count < self.limit:
            return 0
        pause = int(min(2 ** min(count - self.limit, 30), LONGEST_PAUSE))
        self._resume[node] = round_ + 1 + pause
        return pause

    def answered(self, node: int) -> None:
        """Forget a node's failures."""
        self._failures.pop(node, None)
        self._resume.pop(node, None)

    def reachable(self, nodes: list[int], round_: int) -> list[int]:
        """Return the nodes that are not left alone; all, if there are no others."""
        chosen = [node for node in nodes if self._resume.get(node, 0) <= round_]
        return chosen or list(nodes)

    def keep(self, connected: Iterable[int]) -> None:
        """Forget all nodes that are not connected any more."""
        known = set(connected)
        for node in self._failures.keys() - known:
            self.answered(node)


class Complaints:
    """Logs a node's failure once for each reason; peers choose what they say.

    Reasons that differ in numbers alone, such as a round or an address, are one.
    """

    def __init__(self) -> None:
        self._seen: dict[int | None, set[str]] = {}

    def about(self, node: int | None, reason: str | None) -> None:
        """Log a reason as a warning the first time, at DEBUG from then on.

        Parameters
        ----------
        node : int or None
            Which node failed; None where that is not known.
        reason : str or None
            What it said.
        """
        reason = (reason or "no reason given")[:_REASON_CHARACTERS]
        kind = _NUMBER.sub("#", reason)
        seen = self._seen.setdefault(node, set())
        new = kind not in seen and len(seen) < _REASONS_PER_NODE
        if new:
            seen.add(kind)
        who = "a client" if node is None else f"node {node}"
        log(WARNING if new else DEBUG, "lasg: %s: %s", who, reason)

    def consequence(self, node: int, text: str) -> None:
        """Log what comes of a node's failures: at INFO if they were warned of."""
        log(INFO if self._seen.get(node) else WARNING, "lasg: node %d: %s", node, text)

    def keep(self, connected: Iterable[int]) -> None:
        """Forget all nodes that are not connected any more."""
        known = set(connected)
        self._seen = {node: s for node, s in self._seen.items() if node in known}


class Doubts:
    """Warns once of what is legal, but hardly meant."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def about(self, server: LasgServer, reply: Reply, is_update: bool) -> None:
        """Look at a reply; `is_update` where it is about a pseudo-gradient."""
        if is_update and not server.step.is_one:
            self._say(
                "the clients send updates of the model, not gradients, but the "
                f"server's step is {server.step.name}: pass step=1.0 to the strategy"
            )
        if server.buffers.size and reply.payload and not reply.buffers:
            self._say(
                "uploads come without buffers, so that the model's keep their values: "
                "give the clients' oracle load_buffers() and buffers(), or pass "
                "buffers=() to train them like parameters"
            )

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log(WARNING, "lasg: %s", text)
