"""The server's state machine: ask, keep what is valid, and move θ."""

from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from ..codecs.assignment import assigned_codecs
from ..config import LasgConfig
from ..errors import LasgError
from ..ledger import Ledger
from ..memory import Upload
from ..rules.threshold import StepHistory
from ..vectors import F32, finite_vector, frozen
from .broadcast import Broadcast
from .buffers import BufferMean, dense_bytes
from .contact import Distances, contact
from .departures import check_key, departing
from .messages import Reply, Request
from .norm_filter import NormFilter
from .refusals import Refusal, RefusedReply
from .roster import IterateStore, Roster, WorkerRecord
from .rounds import Kept, OpenRound, RoundReport, Verdict, decoded
from .versions import NO_FORM, Form


class LasgServer:
    """The server's half of the protocol, without any transport.

    A round is `open_round`, any number of `receive`, and `close_round`.

    Parameters
    ----------
    theta : ndarray, shape (p,)
        θ^0.
    config : LasgConfig (default: LasgConfig())
        Everything that the run is told.
    buffers : ndarray, shape (B,), optional
        The first values of the model's buffers (BatchNorm statistics). The server keeps
        the weighted mean of those that come along with a round's uploads.
    form : Form, optional
        What else the model is made of; workers that keep it get it only once.

    Attributes
    ----------
    theta : ndarray, shape (p,), float32
        θ^k, read-only.
    round : int
        k.
    ledger : Ledger
        What was sent.

    Raises
    ------
    ValueError
        If an argument is out of its range, or does not go together with the config.
    """

    def __init__(
        self,
        theta: NDArray[Any],
        config: LasgConfig | None = None,
        *,
        buffers: NDArray[Any] | None = None,
        form: Form = NO_FORM,
    ) -> None:
        config = LasgConfig() if config is None else config
        self.config, self.settings = config, config.settings
        self.rule, self.step = config.rule_object, config.step_object
        self.memory = self.settings.memory_object
        self.theta = finite_vector(theta, "theta", 1)
        size = self.theta.size
        self.memory.check_size(assigned_codecs(self.settings.codec), size)
        self.sum = self.memory.start(size)
        self.step_state = self.step.init(size)
        self.round = 0
        self.history = StepHistory(self.rule.d_max)
        self.roster = Roster()
        self.iterates = IterateStore()
        self.ledger = Ledger()
        self.norm_filter = NormFilter(config.norm_bound)
        self.buffer_mean = BufferMean(buffers)
        self.broadcast = Broadcast(self.settings, self.theta, self.buffers, form)
        self._open: OpenRound | None = None

    @property
    def buffers(self) -> F32:
        """The buffers that go out with θ^k, read-only."""
        return self.buffer_mean.values

    @property
    def session(self) -> bytes:
        """Random for each life of a server process."""
        return self.broadcast.session

    @property
    def threshold(self) -> float:
        """T^k of the round to come."""
        c = self.config.threshold_constant * self.rule.threshold_scale(self.round)
        return self.history.threshold(c)

    def introduce(self, node: int, key: int, examples: int = 1) -> None:
        """Tell the server the key of a node ahead of its first reply.

        Raises
        ------
        DuplicateKeyError
            If another node has that key.
        ValueError
            If the rule does not know the worker.
        """
        self.check_between_rounds("introduce a worker")
        self.rule.check_key(key)
        self.roster.introduce(self._new_record(key, node, examples))

    def open_round(
        self, nodes: Iterable[int], connected: Iterable[int] | None = None
    ) -> list[tuple[int, Request]]:
        """Start round k: return the requests to send.

        Parameters
        ----------
        nodes : iterable of int
            The nodes that this round can reach (a sample of all, for instance).
        connected : iterable of int, optional
            All nodes that are there; left out, `nodes`.

        Returns
        -------
        list of (int, Request)
            Nodes to contact; the others are left alone this round.
        """
        self.check_between_rounds("open a round")
        nodes, broadcast, k = list(nodes), self.broadcast, self.round
        there = frozenset(connected or nodes)
        broadcast.turn += 1
        opened = OpenRound(self.session, k, self.threshold, there)
        distances = Distances(broadcast.theta, self.iterates)
        requests, t = [], opened.threshold
        for node in nodes:
            record = self.roster.at(node)
            force = contact(self.rule, self.memory, record, k, t, distances)
            if force is not None:
                request = self._request(node, record, force, t)
                opened.ask(node, request, record)
                requests.append((node, request))
        self._open = opened
        dense = dense_bytes(self.theta) + dense_bytes(self.buffers)
        sent = [request.path_bytes for _, request in requests]
        self.ledger.count_requests(len(nodes), sent, broadcast.packed_bytes, dense)
        return requests

    def receive(self, node: int, reply: Reply) -> Verdict:
        """Keep a reply if it is valid; anything else changes nothing but a counter.

        Parameters
        ----------
        node : int
            Where it came from, as the transport knows it.
        reply : Reply
            What it says.
        """
        self.ledger.uplink_bytes += len(reply.payload) + len(reply.buffers)
        self.broadcast.heard(node, reply)
        current = self._open
        try:
            if current is None:
                raise RefusedReply(Refusal.OTHER_ROUND, "no round is open")
            self._keep(current, node, reply)
        except RefusedReply as refused:
            self.refuse(refused.reason)
            if current is not None and refused.reason is Refusal.NO_MODEL:
                self.broadcast.answered(node, current.drop(node), reply)
            return Verdict(False, refused.reason, str(refused))
        for kept in current.ready():
            self._apply(current, kept)
        return Verdict(True)

    def refuse(self, reason: Refusal) -> None:
        """Count a reply that was refused, also one that could not even be read."""
        self.ledger.refused[str(reason)] += 1
        if self._open is not None:
            self._open.refused += 1

    def close_round(self) -> RoundReport:
        """Apply what was kept, in key order, move θ, and go on to round k + 1.

        Raises
        ------
        LasgError
            If no round is open, or θ^{k+1} is not finite.
        """
        current, self._open = self._open, None
        if current is None:
            raise LasgError("no round is open: call open_round first")
        for kept in current.rest():
            self._apply(current, kept)
        self.memory.settle(self.sum, self.roster.sorted)
        self.buffer_mean.settle()
        refused = self.norm_filter.settle(self.roster.records)
        for old in departing(self.rule, self.memory, self.roster, current, refused):
            self._remove(old)
        moved, new_start = self._move(), self._maybe_new_start()
        self.round += 1
        self.iterates.drop_until(self.round - self.rule.max_delay)
        self.ledger.rounds += 1
        return current.report(moved, new_start)

    def leave(self, key: int) -> None:
        """Take a worker out: its h_m leaves S, or its state is lost (sum-only)."""
        self.check_between_rounds("remove a worker")
        self._remove(self.roster.records[key])

    def _remove(self, record: WorkerRecord) -> None:
        self._forget_iterate(record)
        self.broadcast.forget(record.node)
        self.memory.remove(self.sum, record, self.roster.sorted)

    def _request(
        self, node: int, record: WorkerRecord | None, force: bool, threshold: float
    ) -> Request:
        first = record is None or not record.accepted
        return self.broadcast.request(
            node,
            self.round,
            threshold,
            None if record is None else record.id,
            force,
            self.settings.codec if first else self.config.later_full_codec,
        )

    def _keep(self, current: OpenRound, node: int, reply: Reply) -> None:
        request = current.check(node, reply)
        check_key(self.rule, self.roster, current, node, reply.key)
        upload = None if reply.kind == "skip" else self._upload(node, request, reply)
        current.keep(node, reply, upload)
        self.broadcast.answered(node, request.path, reply)
        self.ledger.skips += upload is None
        self.ledger.gradient_evaluations += reply.gradient_evaluations

    def _upload(self, node: int, request: Request, reply: Reply) -> Upload:
        upload = decoded(request, reply)
        buffers = self.buffer_mean.decode(reply.buffers)
        self.norm_filter.check(reply.key, reply.kind, upload.decoded, node)
        return upload._replace(buffers=buffers)

    def _apply(self, current: OpenRound, kept: Kept) -> None:
        node, reply, upload = kept
        record = self.roster.bound(reply.key, node)
        if record is None:
            record = self._new_record(reply.key, node, reply.examples)
            self.roster.add(record)
        current.uploaded += 1
        self.ledger.uploads += 1
        if self.memory.weighs_anew or not record.accepted:
            record.weight, record.accepted = self._weight(reply.examples), True
        self._forget_iterate(record)
        self.memory.apply(self.sum, record, upload)
        self.buffer_mean.add(upload.buffers, record.weight)
        if self.rule.stores_iterates and record.id is not None:
            self.iterates.retain(self.round, self.broadcast.theta)
        record.rule = self.rule.learn(record.rule, reply.smoothness_ratio)

    def _new_record(self, key: int, node: int, examples: int) -> WorkerRecord:
        stranger = self.memory.member_state()
        return WorkerRecord(key, node, self._weight(examples), stranger)

    def _forget_iterate(self, record: WorkerRecord) -> None:
        if record.id is not None and self.rule.stores_iterates:
            self.iterates.release(record.round)

    def _move(self) -> bool:
        if self.sum.weight <= 0:
            return False
        mean, k, state = self.sum.mean(), self.round, self.step_state
        theta, state = self.step.finite_update(self.theta, mean, k, state)
        self.history.push(self.config.squared_length(theta, self.theta, mean))
        self.theta, self.step_state = frozen(theta), state
        self.broadcast.move(self.theta, self.buffers, self.round)
        return True

    def _maybe_new_start(self) -> bool:
        records, oldest = self.roster.sorted, self.round - self.rule.max_delay
        share = self.config.lost_share
        forgotten = self.memory.new_start(self.sum, records, oldest, share)
        if forgotten is None:
            return False
        for record in forgotten:
            self._forget_iterate(self.roster.records[record.key])
            record.id = None
        self.ledger.new_starts += 1
        return True

    def _weight(self, examples: int) -> float:
        return float(examples) if self.config.weights == "examples" else 1.0

    def check_between_rounds(self, what: str) -> None:
        """Raise `LasgError` while a round is open."""
        if self._open is not None:
            raise LasgError(f"cannot {what} while round {self.round} is open")
