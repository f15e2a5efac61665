"""The worker's state machine: decide, encode, and remember what the server may have."""

from functools import partial
from math import isfinite
from typing import Any, cast

import numpy as np

from ..checks import whole
from ..codecs.assignment import codec_of
from ..codecs.coding.entropy import BytesLike
from ..config import U64
from ..errors import NonFiniteGradientError
from ..memory import Encoded, Slots
from ..oracles.base import Oracle, buffers_of, check_oracle, overrides, taken
from ..random import BATCH, CODEC, KeyedGenerators
from ..rules import Outcome, Seen, decide
from ..vectors import F32, NO_BUFFERS, is_finite, is_within, largest_magnitude
from . import buffers
from .limits import LARGEST_VALUE
from .messages import OLDER_KEY, Reply, ReplyKind, Request
from .serving import Reached, Task, is_old, no_model, served
from .state import Slot, WorkerState
from .upload_ids import upload_id


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
    reached : Reached, optional
        Versions of the model that it shares with other workers of this process.

    Raises
    ------
    ValueError
        If the oracle has no examples or the key is out of range.
    """

    __slots__ = ("_follows_rounds", "_generators", "_reached", "key", "oracle", "state")

    def __init__(
        self,
        oracle: Oracle,
        key: int,
        state: WorkerState | None = None,
        reached: Reached | None = None,
    ) -> None:
        check_oracle(oracle)
        self.oracle = oracle
        self.key = whole("key", key, most=U64 - 1)
        self.state = state or WorkerState()
        self._generators: KeyedGenerators | None = None
        self._reached = reached
        self._follows_rounds = overrides(oracle, "start_round")

    def handle(self, request: Request) -> Reply | None:
        """Answer a request; None for one that is not newer than the last answered.

        A request that leads to no model the server means is answered so, and changes
        nothing. If anything fails, the state is as it was.

        Raises
        ------
        ValueError
            If θ does not fit the oracle.
        NonFiniteGradientError
            If the oracle returns NaN or infinity.
        """
        task = self.begin(request)
        if task is None or isinstance(task, Reply):
            return task
        request = task.request
        reference = None
        if task.reference_point is not None:  # first: what an app leaves is of θ^k
            reference = self._reference_gradient(task.reference_point, task)
            reference = taken(reference, request.theta, self.key)
        gradient = self._gradient(request.theta, task)
        values = buffers_of(self.oracle, request.buffers, self.key)
        return self.finish(task, gradient, reference, values)

    def _gradient(self, theta: F32, task: Task) -> F32:
        self.oracle.load_buffers(task.request.buffers)
        return self.oracle.gradient(theta, task.batch)

    def _reference_gradient(self, theta: F32, task: Task) -> F32:
        """Return the gradient at an older iterate, as of its round."""
        base, request = task.base, task.request
        told_of = self._follows_rounds or request.config is not None
        if base is None or not (told_of or base.config is not None):
            return self._gradient(theta, task)
        told = base.config and {**base.config, OLDER_KEY: True}
        self._enter(base.reference_round, told)
        gradient = self._gradient(theta, task)
        self._enter(request.round, request.config)
        return gradient

    def _changes(self, task: Task) -> tuple[F32, F32]:
        """Return what `Seen.changes` has, from two runs on either half of the batch."""
        point, theta, found = task.reference_point, task.request.theta, []
        for half in self.oracle.halves(task.batch):
            part = task._replace(batch=half)
            old = taken(
                self._reference_gradient(cast(F32, point), part), theta, self.key
            )
            found.append(taken(self._gradient(theta, part), theta, self.key) - old)
        return found[0], found[1]

    def _enter(self, round_: int, config: dict[str, Any] | None) -> None:
        if config is not None:
            self.oracle.configure(dict(config))
        self.oracle.start_round(round_)

    def begin(self, request: Request) -> Task | Reply | None:
        """Find what the request needs: the model, the batch, a second gradient."""
        if is_old(self.state.answered, request):
            return None
        model = self.state.model
        if request.model is not None:
            model = served(model, request, self._reached)
            if model is None:
                examples = self.oracle.num_examples
                return no_model(request.head(), self.key, examples, self.state.model)
            request = request._replace(theta=model.theta, buffers=model.buffers)
        size = self.oracle.size
        if size is not None and request.theta.shape != (size,):
            raise ValueError(
                f"theta has shape {request.theta.shape}, the oracle of worker "
                f"{self.key} expects ({size},): server and client hold other models"
            )
        buffers_of(self.oracle, request.buffers, self.key)  # refuses other models
        base = self._slot(request.accepted_id)
        state = None if base is None else base.rule
        rule = request.settings.rule_object
        if rule.refreshes(state, request.round):
            state, forced = None, True
        else:
            forced = base is None or request.force
        self._enter(request.round, request.config)
        batch = self.oracle.draw(self._generator(request, BATCH))
        point = rule.reference_point(state, forced)
        return Task(request, base, state, forced, batch, point, model)

    def finish(
        self,
        task: Task,
        gradient: F32,
        reference: F32 | None,
        values: F32 = NO_BUFFERS,
    ) -> Reply:
        """Decide, and answer; `reference` was `taken`, `values` are the buffers."""
        request = task.request
        rule = request.settings.rule_object
        halved = rule.halves_batches and reference is not None
        lasts = rule.keeps_gradients or halved
        gradient = taken(gradient, request.theta, self.key, lasts)
        seen = Seen(request.theta, request.round, gradient, reference, task.forced)
        if rule.compares_with_h:
            seen = self._with_memory(seen, task)
        if halved:
            seen = seen._replace(changes=self._changes(task))
        outcome = rule.update(task.rule, seen)
        due = task.forced or rule.decided_by != "worker"
        uploads = decide(outcome.lhs, request.threshold, due).upload
        if not isfinite(outcome.lhs):
            if not uploads or outcome.vector is not gradient:  # else it is looked at
                self._check_finite(gradient, request)
            if reference is not None:
                self._check_finite(reference, request)
        answered = (request.session, request.turn)
        base = task.base
        if base is not None and outcome.kept is not task.rule:
            base = base._replace(rule=outcome.kept)
        count = (1 if reference is None else 2) * self.oracle.gradients_per_call
        count *= 2 if halved else 1
        if uploads:
            if values.size:
                self._check_finite(values, request, "buffers")
            self._check_length(outcome.vector, request)
            kind, payload, memory = self._encoded(request, task.base, outcome.vector)
            reply = self._reply(task, cast(ReplyKind, kind), payload, outcome, count)
            slot = Slot(
                upload_id(request.accepted_id, reply, request.model),
                request.round,
                outcome.uploaded,
                memory,
                *self._reference(task, outcome),
            )
            committed = self.state.committed if base is None else base
            self.state = WorkerState(
                committed, slot, answered, task.model, request.session
            )
            if values.size:
                reply = reply._replace(buffers=buffers.encode(values))
            return reply
        self.state = WorkerState(base, None, answered, task.model, request.session)
        return self._reply(task, "skip", b"", outcome, count)

    def _reference(
        self, task: Task, outcome: Outcome[Any]
    ) -> tuple[int, dict[str, Any] | None]:
        """Return round and config of the new upload's reference point."""
        request, base = task.request, task.base
        point = request.settings.rule_object.reference_point(outcome.uploaded, False)
        if point is request.theta or base is None or task.rule is None:
            return request.round, request.config
        return base.reference_round, base.config

    def _with_memory(self, seen: Seen, task: Task) -> Seen:
        """Add what a rule that compares with h_m must know."""
        memory, base = task.request.settings.memory_object, task.base
        slots = (self.state.pending, self.state.committed)
        return seen._replace(
            h=None if base is None else memory.held_at_worker(base.memory),
            keeps_h=memory.keeps_h,
            earlier=next((s.rule for s in slots if s is not None), None),
        )

    def _check_finite(
        self, values: F32, request: Request, what: str = "gradient"
    ) -> None:
        if not is_finite(values):
            raise NonFiniteGradientError(
                f"worker {self.key} in round {request.round}: NaN or infinity in its "
                f"{what}: check its data, or lower the learning rate"
            )

    def _check_length(self, vector: F32, request: Request) -> None:
        """Refuse to send what the server would not take: g − h is twice as long."""
        if is_within(vector, LARGEST_VALUE / 2):
            return
        self._check_finite(vector, request)
        largest = largest_magnitude(vector)
        if largest > LARGEST_VALUE / 2:
            raise NonFiniteGradientError(
                f"worker {self.key} in round {request.round}: its gradient has a value "
                f"of magnitude {largest:.3g}: training diverged; lower the learning "
                "rate, or check its data"
            )

    def _encoded(self, request: Request, base: Slot | None, vector: F32) -> Encoded:
        settings, state = request.settings, self.state
        committed, pending = state.committed, state.pending
        slots: Slots[Any] = Slots(
            None if base is None else base.memory,
            None if committed is None else committed.memory,
            None if pending is None else pending.memory,
            pending is not None
            and (base is pending if base else request.accepted_id is not None),
            state.trained == request.session,
        )
        memory = settings.memory_object
        spec = settings.codec if memory.is_relative(slots) else request.full_codec
        rng = partial(self._generator, request, CODEC)
        return memory.encode(codec_of(spec, self.key), vector, slots, rng)

    def _generator(self, request: Request, stream: int) -> np.random.Generator:
        seed = request.settings.seed
        if self._generators is None or self._generators.seed != seed:
            self._generators = KeyedGenerators(seed, self.key)
        return self._generators.at(request.round, stream)

    def _slot(self, upload: bytes | None) -> Slot | None:
        for slot in (self.state.pending, self.state.committed):
            if slot is not None and slot.id == upload:
                return slot
        return None

    def _reply(
        self,
        task: Task,
        kind: ReplyKind,
        payload: BytesLike,
        outcome: Outcome[Any],
        gradient_evaluations: int,
    ) -> Reply:
        return Reply(
            task.request.session,
            task.request.round,
            self.key,
            None if task.base is None else task.base.id,
            kind,
            payload,
            outcome.lhs,
            outcome.smoothness_ratio,
            self.oracle.num_examples,
            gradient_evaluations,
            turn=task.request.turn,
            holds=task.request.model,
        )
