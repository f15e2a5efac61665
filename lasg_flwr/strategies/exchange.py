"""One exchange of messages: all replies, or as many as a round waits for."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Closing:
    """When a round stops waiting for replies.

    Attributes
    ----------
    seconds : float, optional
        Deadline after the requests were sent; None is Flower's `timeout` alone.
    share : float
        Share of the requests that must be answered, errors not counted.
    """

    seconds: float | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(
                f"round_seconds must be > 0 or None, got {self.seconds!r}; leave it "
                "out to wait for everybody"
            )
        if not 0 < self.share <= 1:
            raise ValueError(f"reply_share must lie in (0, 1], got {self.share!r}")

    @property
    def waits_for_all(self) -> bool:
        """Whether Flower's own exchange will do."""
        return self.seconds is None and self.share == 1.0


def exchange(
    grid: Grid, messages: Iterable[Message], timeout: float, closing: Closing
) -> list[Message]:
    """Send messages and return the replies that came in time.

    Parameters
    ----------
    grid : Grid
        Flower's connection to the nodes.
    messages : iterable of Message
        What to send.
    timeout : float
        Flower's limit, in seconds.
    closing : Closing
        When to stop earlier. What comes later is never pulled.
    """
    messages = list(messages)
    if not messages:
        return []
    if closing.waits_for_all:
        return list(grid.send_and_receive(messages, timeout=timeout))
    limit = timeout if closing.seconds is None else min(timeout, closing.seconds)
    end = time.monotonic() + limit
    waiting = {message_id for message_id in grid.push_messages(messages) if message_id}
    needed = math.ceil(closing.share * len(messages))
    replies: list[Message] = []
    while waiting:
        pulled = list(grid.pull_messages(waiting))
        replies += pulled
        waiting -= {message.metadata.reply_to_message_id for message in pulled}
        good = sum(not message.has_error() for message in replies)
        remaining = end - time.monotonic()
        if not waiting or good >= needed or remaining <= 0:
            break
        time.sleep(min(POLL_SECONDS, remaining))
    return replies
