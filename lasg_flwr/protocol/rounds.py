"""A round at the server: who was asked, which replies are valid, and in what order."""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ..codecs import wire
from ..codecs.assignment import codec_of
from ..errors import WireError
from ..memory import Upload
from .limits import LARGEST_VALUE, check_numbers
from .messages import Reply, Request
from .refusals import Refusal, RefusedReply
from .roster import WorkerRecord
from .upload_ids import upload_id
from .versions import Path


class Verdict(NamedTuple):
    """What became of a reply: kept, or the reason why it changed nothing."""

    kept: bool
    reason: Refusal | None = None
    detail: str = ""


class RoundReport(NamedTuple):
    """What happened in a round.

    Attributes
    ----------
    round : int
        k.
    threshold : float
        T^k.
    contacted, uploaded, skipped, refused : int
        Requests sent; replies kept that upload or skip; replies refused.
    moved : bool
        Whether θ was moved.
    new_start : bool
        Whether all workers will be refreshed (sum-only memory).
    """

    round: int
    threshold: float
    contacted: int
    uploaded: int
    skipped: int
    refused: int
    moved: bool
    new_start: bool


class Kept(NamedTuple):
    """An upload that waits to be applied."""

    node: int
    reply: Reply
    upload: Upload


@dataclass(slots=True)
class OpenRound:
    """The round that is open.

    Uploads are applied in key order: those of known workers as soon as no smaller key
    can still come, so that few are held at once, and the rest when the round closes.

    Attributes
    ----------
    connected : frozenset of int
        Nodes that are there, asked or not.
    claims : dict of int to int
        The other key that a bound node has claimed, where no valid answer followed.
    """

    session: bytes
    round: int
    threshold: float
    connected: frozenset[int]
    contacted: int = 0
    uploaded: int = 0
    skipped: int = 0
    refused: int = 0
    claims: dict[int, int] = field(default_factory=dict)
    _asked: dict[int, tuple[Request, WorkerRecord | None]] = field(default_factory=dict)
    _order: list[tuple[int, int]] = field(default_factory=list)
    _next: int = 0
    _strangers: bool = False
    _answered: set[int] = field(default_factory=set)
    _heard: set[int] = field(default_factory=set)
    _lacking: dict[int, tuple[Request, WorkerRecord | None]] = field(
        default_factory=dict
    )
    _waiting: dict[int, Kept] = field(default_factory=dict)

    def ask(self, node: int, request: Request, record: WorkerRecord | None) -> None:
        """Note a request that is sent."""
        self.contacted += 1
        self._asked[node] = (request, record)
        if record is None:
            self._strangers = True
        else:
            insort(self._order, (record.key, node))

    def check(self, node: int, reply: Reply) -> Request:
        """Return the request that a reply answers.

        Raises
        ------
        RefusedReply
            If the reply is none to these requests, its sender was not asked or is not
            who it says, it has not the model, builds on another upload, or skips where
            it must not.
        """
        if (reply.session, reply.round) != (self.session, self.round):
            detail = "the reply is not to this session and round"
            raise RefusedReply(Refusal.OTHER_ROUND, detail)
        if node not in self._asked:
            if node in self._heard:
                detail = "this node has answered in this round"
                raise RefusedReply(Refusal.DUPLICATE, detail)
            detail = "this node was not asked in this round"
            raise RefusedReply(Refusal.UNSOLICITED, detail)
        request, record = self._asked[node]
        if reply.turn != request.turn:
            detail = "the reply is to an earlier request of this round"
            raise RefusedReply(Refusal.OTHER_ROUND, detail)
        if record is not None and record.key != reply.key:
            self.claims[node] = reply.key
            detail = f"the node is bound to key {record.key}, not {reply.key}"
            raise RefusedReply(Refusal.FOREIGN_KEY, detail)
        if reply.key in self._answered:
            raise RefusedReply(
                Refusal.DUPLICATE_KEY,
                f"two live nodes answer with key {reply.key}; give each client its own "
                "partition-id",
            )
        if reply.kind == "no-model":
            raise RefusedReply(Refusal.NO_MODEL, "the node lacks the model's base")
        if reply.base is not None and reply.base != request.accepted_id:
            detail = "the reply builds on another upload"
            raise RefusedReply(Refusal.FOREIGN_BASE, detail)
        if reply.kind == "skip" and (
            reply.base is None or request.force or reply.payload or reply.buffers
        ):
            detail = "an upload was due, or bytes came along"
            raise RefusedReply(Refusal.ILLEGAL_SKIP, detail)
        check_numbers(reply)
        return request

    def drop(self, node: int) -> Path | None:
        """Take back a request for want of its model; return the steps it carried."""
        self._lacking[node] = self._asked.pop(node)
        return self._lacking[node][0].path

    def ask_again(self, node: int, turn: int) -> Request | None:
        """Return a request with the dense model, in place of one that was taken back.

        None where there is no such request; a node is asked again once for each.
        """
        if node not in self._lacking:
            return None
        request, record = self._lacking.pop(node)
        request = request._replace(turn=turn, path=None)
        self._asked[node] = (request, record)
        return request

    def keep(self, node: int, reply: Reply, upload: Upload | None) -> None:
        """Take a valid reply; `upload` is None for a skip."""
        if upload is None:
            self.skipped += 1
        else:
            self._waiting[reply.key] = Kept(node, reply, upload)
        self.claims.pop(node, None)
        _, record = self._asked.pop(node)
        if record is not None:
            record.heard = self.round
        self._answered.add(reply.key)
        self._heard.add(node)

    def ready(self) -> Iterator[Kept]:
        """Take out what can be applied before the round closes, in key order."""
        if self._strangers or not self._waiting:
            return
        while self._next < len(self._order):
            key, node = self._order[self._next]
            if node in self._asked:
                return
            self._next += 1
            if key in self._waiting:
                yield self._waiting.pop(key)

    def rest(self) -> Iterator[Kept]:
        """Take out everything that is left, in key order."""
        for key in sorted(self._waiting):
            yield self._waiting.pop(key)

    def report(self, moved: bool, new_start: bool) -> RoundReport:
        """Return what happened."""
        return RoundReport(
            self.round,
            self.threshold,
            self.contacted,
            self.uploaded,
            self.skipped,
            self.refused,
            moved,
            new_start,
        )


def decoded(request: Request, reply: Reply) -> Upload:
    """Return an upload, decoded.

    Raises
    ------
    RefusedReply
        If the upload's kind or payload is off.
    """
    settings, size = request.settings, request.theta.size
    memory, full = settings.memory_object, reply.kind == "full"
    if not full and (reply.base is None or not memory.sends_innovations):
        detail = "without a base, or in a run without"
        raise RefusedReply(Refusal.ILLEGAL_INNOVATION, detail)
    codec = codec_of(request.full_codec if full else settings.codec, reply.key)
    damped = not full or memory.damps_full
    gain = codec.innovation_gain(size) if damped else 1.0
    try:
        vector = wire.decode(reply.payload, codec, size, gain, LARGEST_VALUE)
    except WireError as error:
        raise RefusedReply(Refusal.UNDECODABLE, str(error)) from None
    name = upload_id(request.accepted_id, reply, request.model)
    return Upload(reply.kind, vector, reply.payload, codec, name, request.round)
