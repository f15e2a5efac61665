"""The worker's state machine: decide, encode, and remember what the server may have."""

from math import isfinite, nan
from typing import Any, NamedTuple, cast

import numpy as np

from . import buffers
from .codecs import Codec
from .cycle import codec_of
from .errors import NonFiniteGradientError
from .memories import (
    Encoded,
    encode_full,
    encode_innovation,
    encode_with_error,
)
from .messages import Kind, Reply, Request, upload_id
from .oracle import Oracle, buffers_of, check_form, check_oracle
from .random import BATCH, CODEC, KeyedGenerators
from .rules import Evidence, WorkerRule, decide
from .vectors import F32, F64, NO_BUFFERS, is_finite


class Slot(NamedTuple):
    """One upload, as the worker remembers it.

    Attributes
    ----------
    id : bytes, 16
        What the upload is known by, see `lasg_flwr.messages.upload_id`.
    round : int
        The round it was made in.
    h : ndarray, shape (p,), optional
        What the server decodes to, where later innovations need it: float32, or
        float64 if the server holds only a sum.
    evidence : Evidence
        What the rule keeps.
    lost : ndarray, shape (p,), optional
        Error memory: e_m if this upload was not accepted, where `h` is e_m if it was.
    """

    id: bytes
    round: int
    h: F32 | F64 | None
    evidence: Evidence
    lost: F64 | None = None


class WorkerState(NamedTuple):
    """Everything that a worker keeps between rounds.

    Attributes
    ----------
    committed : Slot, optional
        The last upload that the server is known to have accepted.
    pending : Slot, optional
        A later upload that it may have accepted.
    answered : (bytes, int), optional
        Session and round of the last request answered.
    """

    committed: Slot | None = None
    pending: Slot | None = None
    answered: tuple[bytes, int] | None = None


class Task(NamedTuple):
    """What must be computed before a request can be answered."""

    request: Request
    base: Slot | None
    kept: Evidence | None
    forced: bool
    batch: Any
    second_point: F32 | None


class LasgWorker:
    """A worker: one gradient oracle, and what it remembers of its last uploads.

    Parameters
    ----------
    oracle : Oracle
        The worker's data and loss.
    key : int
        The worker's key, ``0 <= key < 2**64``; no two workers share one.
    state : WorkerState, optional
        State to go on with; left out, the worker starts anew.

    Raises
    ------
    ValueError
        If the oracle has no examples or the key is out of range.
    """

    __slots__ = (
        "_generators",
        "_gradients_per_call",
        "_size",
        "key",
        "oracle",
        "state",
    )

    def __init__(
        self, oracle: Oracle, key: int, state: WorkerState | None = None
    ) -> None:
        check_oracle(oracle)
        if not 0 <= key < 1 << 64:
            raise ValueError(f"key must lie in [0, 2**64), got {key!r}")
        self.oracle = oracle
        self.key = key
        self.state = state or WorkerState()
        self._size: int | None = getattr(oracle, "size", None)
        self._generators: KeyedGenerators | None = None
        self._gradients_per_call: int = getattr(oracle, "gradients_per_call", 1)

    def handle(self, request: Request) -> Reply | None:
        """Answer a request; None for one that is not newer than the last answered.

        If anything fails, the state is as it was.

        Raises
        ------
        ValueError
            If θ does not fit the oracle.
        NonFiniteGradientError
            If the oracle returns NaN or infinity.
        """
        task = self.begin(request)
        if task is None:
            return None
        gradient = self._gradient(request.theta, task)
        values = buffers_of(self.oracle, request.buffers, self.key)
        second = None
        if task.second_point is not None:
            second = self._gradient(task.second_point, task)
        return self.finish(task, gradient, second, values)

    def _gradient(self, theta: F32, task: Task) -> F32:
        if hasattr(self.oracle, "load_buffers"):
            self.oracle.load_buffers(task.request.buffers)
        return self.oracle.gradient(theta, task.batch)

    def begin(self, request: Request) -> Task | None:
        """Find what the request needs: the batch, and where a second gradient."""
        answered = self.state.answered
        if answered and answered[0] == request.session and request.round <= answered[1]:
            return None
        if self._size is not None and request.theta.shape != (self._size,):
            raise ValueError(
                f"theta has shape {request.theta.shape}, the oracle of worker "
                f"{self.key} expects ({self._size},): server and client hold other "
                "models"
            )
        buffers_of(self.oracle, request.buffers, self.key)  # refuses other models
        base = self._base(request.have)
        kept = None if base is None else base.evidence
        rule = request.settings.rule_object
        if rule.refreshes(kept, request.round):
            kept, forced = None, True
        else:
            forced = base is None or request.force
        if hasattr(self.oracle, "start_round"):
            self.oracle.start_round(request.round)
        rng = self._generator(request, BATCH)
        return Task(
            request,
            base,
            kept,
            forced,
            self.oracle.draw(rng),
            rule.second_point(kept, forced),
        )

    def finish(
        self,
        task: Task,
        gradient: F32,
        second: F32 | None,
        values: F32 = NO_BUFFERS,
    ) -> Reply:
        """Decide, and answer with a skip or an upload; `values` are the buffers."""
        request, base = task.request, task.base
        rule = request.settings.rule_object
        check_form(gradient, request.theta, self.key)
        if second is not None:
            check_form(second, request.theta, self.key)
        by_worker = rule.decided_by == "worker"
        lhs = nan
        if by_worker and not task.forced and task.kept is not None:
            lhs = cast(WorkerRule, rule).lhs(gradient, second, task.kept)
        if not isfinite(lhs):
            self._check_finite(gradient, request)
            if second is not None:
                self._check_finite(second, request)
        if decide(lhs, request.threshold, task.forced or not by_worker).upload:
            self._check_finite(values, request, "buffers")
            reply = self._upload(task, gradient, second, lhs)
            return reply._replace(buffers=buffers.encode(values))
        self.state = WorkerState(base, None, (request.session, request.round))
        return self._reply(task, "skip", b"", lhs, second, None)

    def _check_finite(
        self, values: F32, request: Request, what: str = "gradient"
    ) -> None:
        if not is_finite(values):
            raise NonFiniteGradientError(
                f"worker {self.key} in round {request.round}: NaN or infinity in its "
                f"{what}: check its data, or lower the learning rate"
            )

    def _encoded(self, request: Request, base: Slot | None, gradient: F32) -> Encoded:
        settings = request.settings
        if base is not None and base.h is not None and settings.sends_innovations:
            codec = settings.codec_for(self.key)
            rng = self._rounding(codec, request)
            return encode_innovation(codec, gradient, base.h, rng)
        codec = codec_of(request.full_codec, self.key)
        rng = self._rounding(codec, request)
        if settings.memory == "error":
            error = self._error(request)
            return encode_with_error(codec, gradient, error, rng)
        return encode_full(settings, codec, gradient, rng)

    def _error(self, request: Request) -> F64 | None:
        """Return e_m: what past uploads of this run left out, lost ones included."""
        have, answered = request.have, self.state.answered
        here = answered is not None and answered[0] == request.session
        if not here and self._base(have) is None:
            return None  # the state is another run's
        pending, committed = self.state.pending, self.state.committed
        if pending is not None:
            accepted = pending.id == have
            return cast(F64 | None, pending.h if accepted else pending.lost)
        return None if committed is None else cast(F64 | None, committed.h)

    def _rounding(self, codec: Codec, request: Request) -> np.random.Generator | None:
        if not codec.stochastic:
            return None
        return self._generator(request, CODEC)

    def _generator(self, request: Request, stream: int) -> np.random.Generator:
        seed = request.settings.seed
        if self._generators is None or self._generators.seed != seed:
            self._generators = KeyedGenerators(seed, self.key)
        return self._generators.at(request.round, stream)

    def _base(self, have: bytes | None) -> Slot | None:
        for slot in (self.state.pending, self.state.committed):
            if slot is not None and slot.id == have:
                return slot
        return None

    def _upload(
        self, task: Task, gradient: F32, second: F32 | None, lhs: float
    ) -> Reply:
        request, base = task.request, task.base
        settings = request.settings
        kind, payload, h, lost = self._encoded(request, base, gradient)
        rule, measured = settings.rule_object, None
        if second is not None and task.kept is not None:
            measured = rule.ratio(gradient, second, request.theta, task.kept)
        reply = self._reply(task, kind, payload, lhs, second, measured)
        evidence = rule.evidence(
            request.theta, request.round, gradient, second, task.kept
        )
        self.state = WorkerState(
            self.state.committed if base is None else base,
            Slot(upload_id(request.have, reply), request.round, h, evidence, lost),
            (request.session, request.round),
        )
        return reply

    def _reply(
        self,
        task: Task,
        kind: Kind,
        payload: bytes,
        lhs: float,
        second: F32 | None,
        ratio: float | None,
    ) -> Reply:
        return Reply(
            task.request.session,
            task.request.round,
            self.key,
            None if task.base is None else task.base.id,
            kind,
            payload,
            lhs,
            ratio,
            self.oracle.num_examples,
            (1 if second is None else 2) * self._gradients_per_call,
        )
