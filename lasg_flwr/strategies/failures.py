"""Failing nodes: left alone for a growing time, and logged once for each reason."""

import re
from collections.abc import Iterable
from logging import DEBUG, ERROR, INFO, WARNING

from flwr.common import log

from ..checks import quoted, whole
from ..errors import AllNodesFailedError
from .lasting import LastingCause, remedied

NOBODY = 0
"""The node that failures of unknown origin are put down to."""

LONGEST_PAUSE = 64
"""Rounds that a failing node is left alone for at most."""

_NO_REPLY: tuple[str, int | None] = ("no reply in time", None)
_REASON_CHARACTERS = 300
_REASONS_PER_NODE = 16
_REMEDY_IF_NEVER = (
    "; a ClientApp needs mods=[lasg_mod] or LasgNumPyClient to answer this strategy"
)
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")


class Backoff:
    """Leaves a node alone that failed `limit` times in a row: 1, 2, 4, ... rounds.

    Parameters
    ----------
    limit : int or None
        Failures in a row that are tolerated; None never leaves a node alone.

    Examples
    --------
    >>> backoff = Backoff(limit=2)
    >>> [backoff.failed(7, round_) for round_ in (0, 1)]
    [0, 1]
    >>> backoff.reachable([7, 8], 2), backoff.reachable([7, 8], 3)
    ([8], [7, 8])
    """

    def __init__(self, limit: int | None) -> None:
        hint = "; None contacts failing nodes in every round"
        self.limit = (
            None if limit is None else whole("fail_limit", limit, least=1, hint=hint)
        )
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


class FailureLog:
    """Logs a node's failure once for each reason; peers choose what they say.

    Reasons that differ in numbers alone, such as a round or an address, are one.
    """

    def __init__(self) -> None:
        self._seen: dict[int, set[str]] = {}

    def about(self, node: int, reason: str | None) -> None:
        """Log a reason as a warning the first time, at DEBUG from then on."""
        reason = quoted(reason or "no reason given", _REASON_CHARACTERS)
        kind = _NUMBER.sub("#", reason)
        seen = self._seen.setdefault(node, set())
        new = kind not in seen and len(seen) < _REASONS_PER_NODE
        if new:
            seen.add(kind)
        log(WARNING if new else DEBUG, "lasg: node %d: %s", node, reason)

    def consequence(self, node: int, text: str) -> None:
        """Log what comes of a node's failures: at INFO if they were warned of."""
        log(INFO if self._seen.get(node) else WARNING, "lasg: node %d: %s", node, text)

    def keep(self, connected: Iterable[int]) -> None:
        """Forget all nodes that are not connected any more."""
        known = set(connected)
        self._seen = {node: s for node, s in self._seen.items() if node in known}


class Failures:
    """Whoever was asked in a round and gave no valid answer, and what follows from it.

    Parameters
    ----------
    fail_limit : int or None
        See `Backoff`.
    """

    def __init__(self, fail_limit: int | None) -> None:
        self._backoff = Backoff(fail_limit)
        self._log = FailureLog()
        self._failing: dict[int, tuple[str, int | None]] = {}
        self._unassigned: list[tuple[str, int | None]] = []
        self._well: set[int] = set()
        self._lasting = LastingCause()
        self._asked = 0
        self._silent = False
        self._ever_answered = False

    def keep(self, connected: list[int]) -> None:
        """Forget all nodes that are not connected any more."""
        known = [*connected, NOBODY]
        self._backoff.keep(known)
        self._log.keep(known)
        self._well &= set(known)

    def reachable(self, nodes: list[int], round_: int) -> list[int]:
        """Return the nodes that are not left alone for their failures."""
        return self._backoff.reachable(nodes, round_)

    def open(self, asked: list[int]) -> None:
        """Begin a round: whoever does not answer fails."""
        self._asked = len(asked)
        self._failing = dict.fromkeys(asked, _NO_REPLY)
        self._unassigned = []

    def ask_again(self, node: int) -> None:
        """Note that a node is asked once more in this round."""
        self._failing[node] = _NO_REPLY

    def about(self, node: int, reason: str | None, code: int | None = None) -> None:
        """Note why a node fails; log it once for each node and reason."""
        reason = quoted(remedied(reason or "no reason given"), _REASON_CHARACTERS)
        self._log.about(node, reason)
        if node in self._failing:
            self._failing[node] = reason, code
        else:  # Flower does not always say whose error it is
            self._unassigned.append((reason, code))

    def answered(self, node: int, valid: bool = True) -> None:
        """Note an answer; one that is not valid does not make good for failures."""
        self._failing.pop(node, None)
        if valid:
            self._ever_answered = True
            self._backoff.answered(node)
            self._well.add(node)

    def close(self, round_: int) -> None:
        """End the round: leave nodes alone that failed too often.

        Raises
        ------
        AllNodesFailedError
            If all that were asked failed for a cause that cannot heal.
        """
        silent = len(self._failing) == self._asked > 0
        if silent and not self._silent:
            log(
                WARNING,
                "lasg: round %d: none of %d nodes gave a valid answer in time; if it "
                "goes on like this, give them more time or look at the nodes%s",
                round_,
                self._asked,
                "" if self._ever_answered else _REMEDY_IF_NEVER,
            )
        self._silent = silent
        self._well -= self._failing.keys()
        self._end_if_hopeless(silent)
        for node, (reason, _) in self._failing.items():
            if self._backoff.failed(node, round_) == 1:
                self._log.consequence(
                    node,
                    f"failed {self._backoff.limit} times in a row: it is contacted "
                    f"less and less until it answers; the last reason: {reason}",
                )
        self._failing = {}

    def _end_if_hopeless(self, silent: bool) -> None:
        failed = dict(self._failing) if silent else {}
        nameless = [node for node, cause in failed.items() if cause == _NO_REPLY]
        failed.update(zip(nameless, self._unassigned, strict=False))
        cause = self._lasting.close(failed, self._well)
        if cause is not None:
            log(ERROR, "lasg: all nodes that were asked failed: %s", cause)
            raise AllNodesFailedError(cause)
