"""The replies of a round on their way to the server, and the nodes that fail."""

from logging import WARNING

from flwr.app import Message, RecordDict
from flwr.common import log

from ..errors import WireError
from ..flower import records
from ..flower.names import reason_of
from ..flower.requests import Downloads
from ..protocol import LasgServer
from ..protocol.asking import ask_again
from ..protocol.messages import Reply
from ..protocol.preview import accepts
from ..protocol.refusals import Refusal
from .failures import Failures
from .lasting import WITHOUT_MOD


class Replies:
    """Hands replies to the server, and keeps account of the nodes that fail.

    Parameters
    ----------
    fail_limit : int or None
        See `lasg_flwr.strategies.failures.Backoff`.

    Attributes
    ----------
    failures : Failures
        The account.
    """

    def __init__(self, fail_limit: int | None) -> None:
        self.failures = Failures(fail_limit)
        self._suspicious = SuspiciousReplies()

    def judge(
        self, server: LasgServer, node: int, reply: Reply | None, is_update: bool
    ) -> bool:
        """Hand a reply to the server; return whether it was kept.

        Parameters
        ----------
        server : LasgServer
            Its judge.
        node : int
            Where it came from.
        reply : Reply, optional
            What was read; None for an answer that says nothing.
        is_update : bool
            Whether it is about a pseudo-gradient.
        """
        if reply is None:
            server.refuse(Refusal.EMPTY)
            self.failures.answered(node, valid=False)
            return False
        self._suspicious.look_at(server, reply, is_update)
        verdict = server.receive(node, reply)
        if verdict.kept:
            self.failures.answered(node)
        elif verdict.reason is Refusal.NO_MODEL:
            self.failures.answered(node, valid=False)
        else:
            self.failures.about(node, verdict.detail)
        return verdict.kept

    def refuse(
        self,
        server: LasgServer,
        node: int,
        kind: Refusal,
        reason: str | None,
        code: int | None = None,
    ) -> None:
        """Count an answer that could not be read, or an error, and log it."""
        server.refuse(kind)
        self.failures.about(node, reason, code)


class MessageReplies(Replies):
    """The replies of a round as messages."""

    def __init__(self, fail_limit: int | None) -> None:
        super().__init__(fail_limit)
        self._sent: list[Message] = []
        self._nodes: dict[str, int] | None = None

    def open(self, sent: list[Message]) -> None:
        """Begin a round: whoever does not answer fails."""
        self._sent = sent  # messages get their ids when they are pushed
        self._nodes = None
        self.failures.open([message.metadata.dst_node_id for message in sent])

    def take(self, server: LasgServer, message: Message) -> RecordDict | None:
        """Hand one reply to the server; return its metrics if it was kept."""
        if message.has_error():
            node = self._node_of(message)
            reason, code = reason_of(message.error), message.error.code
            self.refuse(server, node, Refusal.FAILURE, reason, code)
            return None
        node = message.metadata.src_node_id
        try:
            reply = records.read_reply(message.content)
            metrics = records.train_metrics(message.content)
        except WireError as error:
            self.refuse(server, node, Refusal.MALFORMED, str(error))
            return None
        if reply is None and records.is_full_answer(message.content):
            self.refuse(server, node, Refusal.MALFORMED, WITHOUT_MOD)
            return None
        if odd := records.left_out(message.content):
            self._suspicious.say_odd(odd)
        is_update = records.is_update(message.content)
        return metrics if self.judge(server, node, reply, is_update) else None

    def repeats(
        self, server: LasgServer, replies: list[Message], downloads: Downloads
    ) -> tuple[list[Message], list[Message], list[Message]]:
        """Take in the answers of nodes that lack the model, and ask those once more.

        Returns
        -------
        kept, taken, repeats : list of Message
            Replies that are still to be taken in; those that are done with; further
            requests, with the config of the first.
        """
        kept: list[Message] = []
        taken: list[Message] = []
        repeats: list[Message] = []
        first = {message.metadata.dst_node_id: message for message in self._sent}
        for message in replies:
            if not self._lacks_model(message):
                kept.append(message)
                continue
            taken.append(message)
            self.take(server, message)
            node = message.metadata.src_node_id
            again = ask_again(server, node)
            if again is not None:
                repeats.append(downloads.repeated(first[node], again))
                self.failures.ask_again(node)
        self._sent += repeats
        self._nodes = None
        return kept, taken, repeats

    def _lacks_model(self, message: Message) -> bool:
        try:
            reply = None if message.has_error() else records.read_reply(message.content)
        except WireError:
            return False
        return reply is not None and reply.kind == "no-model"

    def would_keep(self, server: LasgServer, message: Message) -> bool:
        """Return whether the server would keep a reply, and change nothing."""
        if message.has_error():
            return False
        try:
            reply = records.read_reply(message.content)
        except WireError:
            return False
        return reply is not None and accepts(
            server, message.metadata.src_node_id, reply
        )

    def evaluated(self, server: LasgServer, message: Message) -> bool:
        """Take what an evaluation says of the model; return whether it counts.

        Raises
        ------
        WireError
            If it is malformed.
        """
        if server.broadcast.model is None:
            return True
        reply = records.read_evaluation(message.content)
        node = message.metadata.src_node_id
        return reply is not None and server.broadcast.evaluated(node, reply)

    def report_failure(self, message: Message, reason: str | None) -> None:
        """Log a failure once for each node and reason, and count it."""
        self.failures.about(self._node_of(message), reason)

    def _node_of(self, reply: Message) -> int:
        """Return the node a reply is about; the SuperLink's own errors name another."""
        if self._nodes is None:
            pushed = [sent.metadata for sent in self._sent]
            self._nodes = {meta.message_id: meta.dst_node_id for meta in pushed}
        asked = self._nodes.get(reply.metadata.reply_to_message_id)
        return reply.metadata.src_node_id if asked is None else asked


class SuspiciousReplies:
    """Warns, once for each kind, of replies that are valid but hardly intended."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._odd_metrics = False

    def look_at(self, server: LasgServer, reply: Reply, is_update: bool) -> None:
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

    def say_odd(self, names: str) -> None:
        """Warn once that metrics were left out; peers choose their names."""
        if self._odd_metrics:
            return
        self._odd_metrics = True
        self._say(
            "metrics of clients are left out, as they are no numbers that can be sent "
            f"and averaged, or have odd names: {names}"
        )

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log(WARNING, "lasg: %s", text)
