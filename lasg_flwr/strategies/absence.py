"""Workers whose nodes stay away: they are taken out of the sum."""

from logging import INFO

from flwr.common import log

from ..server import LasgServer


class Absence:
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
        if limit is not None and limit < 1:
            raise ValueError(f"leave_after must be >= 1, or None, got {limit!r}")
        self._limit = limit
        self.last_seen: dict[int, int] = {}

    def note(self, server: LasgServer, connected: set[int]) -> None:
        """Look who is there before a round."""
        limit = self._limit or server.rule.max_delay
        for record in server.roster.sorted():
            if record.node in connected:
                self.last_seen[record.key] = server.round
            elif record.counted and record.id is not None:
                seen = max(self.last_seen.get(record.key, 0), record.round)
                if server.round - seen >= limit:
                    log(INFO, "lasg: worker %d has left", record.key)
                    server.leave(record.key)
