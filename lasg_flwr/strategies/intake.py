"""The replies of a round on their way to the server: read, judged, complained about."""

from logging import WARNING

from flwr.app import Message, RecordDict
from flwr.common import log
from flwr.common.constant import ErrorCode

from .. import records
from ..errors import CompositionError, WireError
from ..messages import Reply
from ..server import LasgServer
from .faults import Complaints, Patience


class Intake:
    """Hands replies to the server, and keeps account of the nodes that fail.

    Parameters
    ----------
    fail_limit : int or None
        See `lasg_flwr.strategies.faults.Patience`.
    """

    def __init__(self, fail_limit: int | None) -> None:
        self._patience = Patience(fail_limit)
        self._complaints = Complaints()
        self._sent: list[Message] = []
        self._failing: dict[int, str] = {}
        self._warned: set[str] = set()
        self._silent = False

    def keep(self, connected: list[int]) -> None:
        """Forget all nodes that are not connected any more."""
        self._patience.keep(connected)
        self._complaints.keep(connected)

    def reachable(self, nodes: list[int], round_: int) -> list[int]:
        """Return the nodes that are not left alone for their failures."""
        return self._patience.reachable(nodes, round_)

    def open(self, sent: list[Message]) -> None:
        """Begin a round: whoever does not answer fails."""
        self._sent = sent
        self._failing = {m.metadata.dst_node_id: "no reply in time" for m in sent}

    def take(self, server: LasgServer, message: Message) -> RecordDict | None:
        """Hand one reply to the server; return its metrics if it was kept.

        Raises
        ------
        CompositionError
            If a mod of the clients refused the messages before any was accepted.
        """
        if message.has_error():
            server.refuse("failure")
            self.complain(message, message.error.reason)
            _refuse_mods(server, message)
            return None
        try:
            reply = records.read_reply(message.content)
            metrics = records.train_metrics(message.content)
        except WireError as error:
            server.refuse("malformed")
            self.complain(message, str(error))
            return None
        if reply is None:
            server.refuse("empty")
            self._failing.pop(message.metadata.src_node_id, None)
            return None
        self._warn(server, message, reply)
        verdict = server.receive(message.metadata.src_node_id, reply)
        if not verdict.kept:
            self.complain(message, verdict.detail)
            return None
        self._failing.pop(message.metadata.src_node_id, None)
        self._patience.answered(message.metadata.src_node_id)
        return metrics

    def _warn(self, server: LasgServer, message: Message, reply: Reply) -> None:
        """Warn once of what is legal, but hardly meant."""
        if records.is_update(message.content) and not server.step.is_one:
            self._warn_once(
                "the clients send updates of the model, not gradients, but the "
                f"server's step is {server.step.name}: pass step=1.0 to the strategy"
            )
        if server.buffers.size and reply.payload and not reply.buffers:
            self._warn_once(
                "uploads come without buffers, so that the model's keep their values: "
                "give the clients' oracle load_buffers() and buffers(), or pass "
                "buffers=() to train them like parameters"
            )

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log(WARNING, "lasg: %s", text)

    def complain(self, message: Message, reason: str | None) -> None:
        """Log a failure once for each node and reason, and count it."""
        node = self._node_of(message)
        self._complaints.about(node, reason)
        if node in self._failing:
            self._failing[node] = reason or "no reason given"

    def close(self, round_: int) -> None:
        """End the round: leave nodes alone that failed too often."""
        silent = len(self._failing) == len(self._sent) > 0
        if silent and not self._silent:
            log(
                WARNING,
                "lasg: round %d: none of %d nodes gave a valid answer in time; if it "
                "goes on like this, raise round_seconds or look at the nodes",
                round_,
                len(self._sent),
            )
        self._silent = silent
        for node, reason in self._failing.items():
            if self._patience.failed(node, round_) == 1:
                self._complaints.about(
                    node,
                    f"failed {self._patience.limit} times in a row: it is contacted "
                    f"less and less until it answers; the last reason: {reason}",
                )
        self._failing = {}

    def _node_of(self, reply: Message) -> int:
        """Return the node a reply is about; the SuperLink's own errors name another."""
        for sent in self._sent:
            if sent.metadata.message_id == reply.metadata.reply_to_message_id:
                return sent.metadata.dst_node_id
        return reply.metadata.src_node_id


def _refuse_mods(server: LasgServer, message: Message) -> None:
    """Stop a run whose mods do not compose; once it runs, one node cannot."""
    code = message.error.code
    if code != ErrorCode.MOD_FAILED_PRECONDITION or server.ledger.uploads:
        return
    raise CompositionError(
        f"a mod of the ClientApp refused the messages: {message.error.reason} Mods "
        "that clip or mask whole models (differential privacy, secure aggregation) "
        "do not compose with lazy aggregation: remove them"
    )
