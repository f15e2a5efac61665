"""The server's state machine: ask, keep what is valid, and move θ."""

import secrets
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import wire
from .aggregate import SumOnlyAggregate, Upload, aggregate_for
from .buffers import BufferMean
from .contact import Distances, contact
from .cycle import CodecChoice, check_kept, cycle_from, cycle_spec
from .errors import CodecSizeError, LasgError, WireError
from .history import StepHistory
from .ledger import Ledger
from .messages import SESSION_BYTES, Reply, Request, upload_id
from .roster import IterateStore, Record, Roster
from .rounds import Kept, OpenRound, RoundReport, Verdict, decoded
from .rules import Rule, ServerRule, rule_from, worker_spec
from .screen import NormScreen
from .settings import Memory, ServerMemory, Settings
from .steps import ServerStep, step_from
from .vectors import F32, finite_vector, frozen, is_finite, squared_distance

Weighting = Literal["equal", "examples"]


_KEPT = Verdict(True)


class LasgServer:
    """The server's half of the protocol, without any transport.

    A round is `open_round`, any number of `receive`, and `close_round`.

    Parameters
    ----------
    theta : ndarray, shape (p,)
        θ^0.
    rule : str or Rule (default: "wk2")
        Who uploads.
    codec : str, Codec, or sequence of these (default: "dense")
        How uploads are encoded; of several, worker m uses entry m mod n, see
        `lasg_flwr.cycle`.
    memory : {"innovation", "gradient", "error"} (default: "innovation")
        Whether an upload carries g − h_m, g, or e_m + g (rule ``"sgd"`` only).
    server_memory : {"per-worker", "sum-only"} (default: "per-worker")
        Whether the server holds each h_m, or only their weighted sum: O(p).
    step : float or ServerStep (default: 0.1)
        The server's step; a number is plain SGD's learning rate.
    weights : {"equal", "examples"} (default: "equal")
        w_m; fixed at a worker's first acceptance.
    full_codec : str, Codec, or sequence of these, optional
        Codec of full uploads after a worker's first; left out, "dense" under
        sum-only memory and the run's codec otherwise.
    gone_share : float (default: 0.25)
        Sum-only memory: a new start is made once more than this share of the
        workers lost their state.
    seed : int (default: 0)
        Seed of batches and rounding.
    norm_bound : float, optional
        An upload longer than this times the median of the others' last uploads of its
        kind is refused; see `lasg_flwr.screen.NormScreen`.
    model_bytes : int, optional
        Length of the packed model that is sent, for the ledger; left out, that of θ
        and the buffers.
    buffers : ndarray, shape (B,), optional
        The first values of the model's buffers (BatchNorm statistics). The server keeps
        the weighted mean of those that come along with a round's uploads.

    Attributes
    ----------
    theta : ndarray, shape (p,), float32
        θ^k, read-only.
    buffer_mean : BufferMean
        Keeps the buffers.
    round : int
        k.
    ledger : Ledger
        What was sent.

    Raises
    ------
    ValueError
        If an argument is out of its range, or two do not go together.
    """

    def __init__(
        self,
        theta: NDArray[Any],
        rule: str | Rule = "wk2",
        codec: CodecChoice = "dense",
        *,
        memory: Memory = "innovation",
        server_memory: ServerMemory = "per-worker",
        step: float | ServerStep = 0.1,
        weights: Weighting = "equal",
        full_codec: CodecChoice | None = None,
        gone_share: float = 0.25,
        seed: int = 0,
        norm_bound: float | None = None,
        model_bytes: int | None = None,
        buffers: NDArray[Any] | None = None,
    ) -> None:
        self.theta = finite_vector(theta, "theta", 1)
        self.buffer_mean = BufferMean(buffers)
        self.rule = rule_from(rule)
        self.step = step_from(step)
        self.c = self._threshold_constant()
        self.rule.check()
        if weights not in ("equal", "examples"):
            raise ValueError(f"weights must be 'equal' or 'examples', got {weights!r}")
        if not 0.0 <= gone_share <= 1.0:
            raise ValueError(f"gone_share must lie in [0, 1], got {gone_share!r}")
        self.weights = weights
        self.gone_share = gone_share
        spec = cycle_spec(codec)
        self.settings = Settings(
            worker_spec(self.rule), spec, memory, server_memory, seed
        )
        self.full_codec = self.settings.full_codec(full_codec)
        for entry in cycle_from(spec):
            entry.innovation_gain(self.theta.size)
        self.session = secrets.token_bytes(SESSION_BYTES)
        self.round = 0
        self.history = StepHistory(self.rule.d_max)
        self.roster = Roster()
        self.iterates = IterateStore()
        self.ledger = Ledger()
        self.screen = NormScreen(norm_bound)
        self.model_bytes = model_bytes or self.theta.nbytes + self.buffers.nbytes
        self.aggregate = aggregate_for(self.settings, self.theta.size)
        self._open: OpenRound | None = None
        if memory == "error":
            check_kept(spec, self.theta.size)

    def _threshold_constant(self) -> float:
        if self.rule.c is not None:
            return self.rule.c
        return 0.0 if self.rule.decided_by == "nobody" else self.step.default_c()

    @property
    def buffers(self) -> F32:
        """The buffers that go out with θ^k, read-only."""
        return self.buffer_mean.values

    @property
    def threshold(self) -> float:
        """T^k of the round to come."""
        return self.history.threshold(self.c)

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
        self.roster.introduce(Record(key, node, self._weight(examples)))

    def open_round(self, nodes: Iterable[int]) -> list[tuple[int, Request]]:
        """Start round k: return the requests to send.

        Parameters
        ----------
        nodes : iterable of int
            The nodes that this round can reach (a sample of all, for instance).

        Returns
        -------
        list of (int, Request)
            Nodes to contact; the others are left alone this round.
        """
        self.check_between_rounds("open a round")
        opened = OpenRound(self.session, self.round, self.threshold)
        distances = Distances(self.theta, self.iterates)
        requests = []
        reachable = 0
        for node in nodes:
            reachable += 1
            record = self.roster.at(node)
            force = contact(self.rule, record, self.round, opened.threshold, distances)
            if force is None:
                continue
            request = self._request(record, force, opened.threshold)
            opened.ask(node, request, record)
            requests.append((node, request))
        self._open = opened
        dense = wire.HEADER_BYTES + self.theta.nbytes
        if self.buffers.size:
            dense += wire.HEADER_BYTES + self.buffers.nbytes
        self.ledger.sgd_uplink_bytes += dense * reachable
        self.ledger.sgd_downlink_bytes += self.model_bytes * reachable
        self.ledger.downloads += len(requests)
        self.ledger.downlink_bytes += self.model_bytes * len(requests)
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
        current = self._open
        try:
            if current is None:
                raise WireError("other round: no round is open")
            self._keep(current, node, reply)
        except WireError as refusal:
            reason = str(refusal).partition(":")[0]
            self.refuse(reason)
            return Verdict(False, reason, str(refusal))
        for kept in current.ready():
            self._apply(current, kept)
        return _KEPT

    def refuse(self, reason: str) -> None:
        """Count a reply that was refused before it could be read."""
        self.ledger.refused[reason] += 1
        if self._open is not None:
            self._open.refused += 1

    def close_round(self) -> RoundReport:
        """Apply what was kept, in key order, move θ, and go on to round k + 1.

        Raises
        ------
        LasgError
            If no round is open, or θ^{k+1} is not finite.
        """
        if self._open is None:
            raise LasgError("no round is open: call open_round first")
        current = self._open
        for kept in current.rest():
            self._apply(current, kept)
        self._open = None
        self.screen.settle()
        self.aggregate.settle()
        self.buffer_mean.settle()
        moved = self._move()
        new_start = self._maybe_new_start()
        self.round += 1
        self.iterates.drop_until(self.round - self.rule.max_delay)
        self.ledger.rounds += 1
        return current.report(moved, new_start)

    def leave(self, key: int) -> None:
        """Take a worker out: it is not coming back, or not soon.

        Per-worker memory subtracts its h_m; under sum-only memory it is gone.
        """
        self.check_between_rounds("remove a worker")
        record = self.roster.records[key]
        self._forget_iterate(record)
        self.aggregate.remove(record)

    def _request(self, record: Record | None, force: bool, threshold: float) -> Request:
        first = record is None or not record.accepted
        return Request(
            self.settings,
            self.session,
            self.round,
            self.theta,
            threshold,
            None if record is None else record.id,
            force,
            self.settings.codec if first else self.full_codec,
            self.buffers,
        )

    def _keep(self, current: OpenRound, node: int, reply: Reply) -> None:
        request = current.check(node, reply)
        try:
            self.rule.check_key(reply.key)
        except ValueError as error:
            raise WireError(f"unknown key: {error}") from None
        upload = None if reply.kind == "skip" else self._upload(request, reply)
        current.keep(node, reply, upload)
        self.ledger.skips += upload is None
        self.ledger.gradient_evaluations += reply.gradient_evaluations

    def _upload(self, request: Request, reply: Reply) -> Upload:
        vector, codec = decoded(request, reply)
        buffers = self.buffer_mean.decode(reply.buffers)
        self.screen.check(reply.key, reply.kind, vector)
        return Upload(
            reply.kind,
            vector,
            reply.payload,
            codec,
            upload_id(request.have, reply),
            self.round,
            buffers,
        )

    def _apply(self, current: OpenRound, kept: Kept) -> None:
        node, reply, upload = kept
        record = self._bind(node, reply)
        current.uploaded += 1
        self.ledger.uploads += 1
        if not record.accepted:
            record.weight, record.accepted = self._weight(reply.examples), True
        self._forget_iterate(record)
        self.aggregate.apply(record, upload)
        self.buffer_mean.add(upload.buffers, record.weight)
        if isinstance(self.rule, ServerRule) and record.id is not None:
            self.iterates.retain(self.round, self.theta)
        if reply.ratio is not None:
            record.estimate = max(record.estimate or 0.0, reply.ratio)

    def _bind(self, node: int, reply: Reply) -> Record:
        """Return the record of the replying worker, bound to its node."""
        record = self.roster.records.get(reply.key)
        if record is None:
            record = Record(reply.key, node, self._weight(reply.examples))
            self.roster.add(record)
        elif record.node != node:
            self.roster.bind(record, node)
        return record

    def _forget_iterate(self, record: Record) -> None:
        if record.id is not None and isinstance(self.rule, ServerRule):
            self.iterates.release(record.round)

    def _move(self) -> bool:
        if self.aggregate.weight <= 0:
            return False
        theta = self.step(self.theta, self.aggregate.mean(), self.round)
        if not is_finite(theta):
            raise LasgError(
                f"theta is not finite after round {self.round}: training diverged; "
                "lower the learning rate, or choose a codec with a larger alpha"
            )
        self.history.push(squared_distance(theta, self.theta))
        self.theta = frozen(theta)
        return True

    def _maybe_new_start(self) -> bool:
        if not isinstance(self.aggregate, SumOnlyAggregate):
            return False
        records, oldest = self.roster.sorted(), self.round - self.rule.max_delay
        if not self.aggregate.is_overdue(records, oldest, self.gone_share):
            return False
        for record in records:
            if not record.aside:
                self._forget_iterate(record)
        self.aggregate.new_start(records)
        self.ledger.new_starts += 1
        return True

    def _weight(self, examples: int) -> float:
        return float(examples) if self.weights == "examples" else 1.0

    def check_between_rounds(self, what: str) -> None:
        """Raise `LasgError` while a round is open."""
        if self._open is not None:
            raise LasgError(f"cannot {what} while round {self.round} is open")


def check_options(**options: Any) -> None:
    """Refuse arguments of `LasgServer` that are bad whatever the model.

    Raises
    ------
    ValueError
        As `LasgServer` does.
    """
    with suppress(CodecSizeError):
        LasgServer(np.zeros(2, np.float32), **options)
