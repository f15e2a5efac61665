"""What is legal, but hardly meant: warned of once."""

from logging import WARNING

from flwr.common import log

from ..messages import Reply
from ..server import LasgServer


class Doubts:
    """Looks at replies, and warns once of each kind of doubt."""

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
