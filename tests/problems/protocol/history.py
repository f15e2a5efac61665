"""The real server and workers, every message ever sent, and the model beside them.

The methods of `History` are single events, and check what must hold.
"""

import copy
import json
from math import inf

import numpy as np

from lasg_flwr.codecs import wire
from lasg_flwr.codecs.assignment import codec_of
from lasg_flwr.protocol import LasgWorker, Slot, WorkerState
from lasg_flwr.protocol.asking import ask_again
from lasg_flwr.protocol.messages import Reply, Request
from lasg_flwr.protocol.refusals import Refusal
from lasg_flwr.protocol.rounds import Verdict
from lasg_flwr.protocol.saving import Capture, capture, restore
from lasg_flwr.protocol.serving import Reached, evaluated
from lasg_flwr.protocol.versions import Form
from lasg_flwr.rules import ServerRule
from lasg_flwr.vectors import F32, F64
from tests.problems.protocol.model import Checkpoint, Held, Known, Letter, Model, same
from tests.problems.protocol.setups import (
    MAX_WORKERS,
    SIZE,
    CoarseOracle,
    Setup,
)
from tests.problems.servers import h_of


def as_it_travels(request: Request) -> Request:
    """Return a request without what stays at home where steps travel."""
    if request.path is None:
        return request
    nowhere = np.full_like(request.theta, np.nan)
    return request._replace(theta=nowhere, buffers=nowhere, form=Form("nothing"))


class History:
    """Server, workers, the messages between them, and the model of it all."""

    def __init__(self, setup: Setup, seed: int, workers: int = 3) -> None:
        self.setup = setup
        self.dice = np.random.default_rng([seed, 1])
        self.server = setup.server()
        self.model = Model()
        self.workers: dict[int, LasgWorker] = {}
        self.nodes: dict[int, int] = {}
        self.earlier: dict[int, WorkerState] = {}
        self.requests: list[tuple[int, Request]] = []
        self.letters: list[Letter] = []
        self.checkpoints: list[Checkpoint] = []
        self.asked: dict[int, Request] = {}
        self.kept: list[Letter] = []
        self.applied: set[tuple[bytes, int, int]] = set()
        self.is_open = False
        self.uploads = self.innovations = self.restores = 0
        self.reached = Reached() if seed % 2 else None
        self.evaluations: list[tuple[int, Request]] = []
        self.versions: dict[bytes, bytes] = {}
        self.refusals: dict[int, int] = {}
        self.paths = self.evaluated = self.repeats = 0
        self._next_node = 1000
        for _ in range(workers):
            self.join()
        self.checkpoint()

    # --- events between rounds ---------------------------------------------------

    def join(self) -> None:
        """A new worker comes."""
        if len(self.workers) < MAX_WORKERS:
            key = 3 * len(self.workers) % 7
            self.wipe(key, new_node=True)

    def wipe(self, key: int, new_node: bool) -> None:
        """A worker restarts without its state, perhaps with other data."""
        self._start(key, None, new_node)

    def rewind(self, key: int, new_node: bool = False) -> None:
        """A worker restarts with its state of one step ago."""
        self._start(key, copy.deepcopy(self.earlier.get(key)), new_node)

    def lose_part(self, key: int, model: bool) -> None:
        """A worker restarts with its model, or with all but that."""
        state = self.workers[key].state
        lost = {"model": None} if model else {"committed": None, "pending": None}
        self._start(key, state._replace(**lost), False)

    def _start(self, key: int, state: WorkerState | None, new_node: bool) -> None:
        oracle = CoarseOracle(int(self.dice.integers(1, 4)), self.dice)
        self.workers[key] = LasgWorker(oracle, key, state, self.reached)
        if new_node or key not in self.nodes:
            self.nodes[key] = self._next_node
            self._next_node += 1

    def leave(self, key: int) -> None:
        """The server takes a worker out."""
        self.close()
        if key in self.model.known:
            self.server.leave(key)
            self.model.leave(key, self.setup.sum_only)
            self.check()

    def checkpoint(self) -> None:
        """Save the server."""
        self.close()
        arrays, meta = capture(self.server)
        meta = json.loads(json.dumps(meta))
        model = copy.deepcopy(self.model)
        theta, sent = self.server.theta, self.server.broadcast.theta
        self.checkpoints.append(Checkpoint(arrays, meta, model, theta, sent))

    def restore(self, index: int) -> None:
        """The server dies, even within a round, and starts from a checkpoint."""
        saved = self.checkpoints[index % len(self.checkpoints)]
        self.restores += 1
        self.server = self.setup.server()
        restore(self.server, Capture(saved.arrays, saved.meta))
        self.model = copy.deepcopy(saved.model)
        self.asked, self.kept, self.is_open = {}, [], False
        assert same(self.server.theta, saved.theta)
        assert same(self.server.broadcast.theta, saved.sent)
        self.check()

    # --- a round -----------------------------------------------------------------

    def open(self, keys: list[int]) -> None:
        """Open a round that can reach these workers."""
        self.close()
        nodes = [self.nodes[key] for key in keys]
        requests = self.server.open_round(nodes)
        self.asked = dict(requests)
        self.requests += requests
        self.is_open = True
        for key in keys:
            self._check_request(key, self.asked.get(self.nodes[key]))

    def deliver_request(self, index: int) -> int | None:
        """Deliver the request at `index`, at any time; return the reply's index."""
        node, request = self.requests[index]
        worker = next(
            (w for k, w in self.workers.items() if self.nodes[k] == node), None
        )
        if worker is None:
            return None
        before = worker.state
        reply = worker.handle(as_it_travels(request))
        if reply is None:
            assert worker.state is before
            assert before.answered is not None
            assert before.answered >= (request.session, request.turn)
            return None
        if before.answered is not None and before.answered[0] == request.session:
            assert request.turn > before.answered[1], "a request is answered again"
        self._check_model(worker, before, request, reply)
        self.earlier[worker.key] = before
        self.letters.append(Letter(node, reply, request, worker, worker.state))
        return len(self.letters) - 1

    def deliver_reply(self, index: int) -> Verdict:
        """Deliver the reply at `index`, at any time and any number of times."""
        letter = self.letters[index]
        reply = letter.reply
        expected = (
            self.is_open
            and reply.session == self.server.session
            and reply.kind != "no-model"
            and letter.node in self.asked
            and reply.turn == self.asked[letter.node].turn
            and all(letter.node != k.node for k in self.kept)
            and all(reply.key != k.reply.key for k in self.kept)
        )
        verdict = self.server.receive(letter.node, reply)
        assert verdict.kept == expected, verdict
        if verdict.reason is Refusal.NO_MODEL:
            del self.asked[letter.node]
            if self.dice.random() < 0.7:
                self.ask_again(letter.node)
        if verdict.kept:
            mark = (reply.session, reply.round, reply.key)
            assert mark not in self.applied, "applied twice"
            self.applied.add(mark)
            self.kept.append(letter)
        return verdict

    def ask_again(self, node: int) -> None:
        """Ask a node once more that lacked the model."""
        request = ask_again(self.server, node)
        assert request is not None
        assert request.path is None
        assert ask_again(self.server, node) is None
        self.asked[node] = request
        self.requests.append((node, request))
        self.repeats += 1

    def close(self) -> None:
        """Close the round, if one is open, and compare everything with the model."""
        if not self.is_open:
            return
        round_ = self.server.round
        before = self.server.theta
        for letter in self.kept:
            self._take_in(letter)
        self.model.expire(round_, self.setup.max_delay, self.setup.sum_only)
        weight = self.model.total()[1]
        report = self.server.close_round()
        assert report.moved == (weight > 0)
        assert report.moved or self.server.theta is before
        setup = self.setup
        assert report.new_start == (
            setup.sum_only
            and self.model.new_start(round_, setup.max_delay, setup.lost_share)
        )
        kept, self.kept, self.asked, self.is_open = self.kept, [], {}, False
        self.check()
        for letter in kept:
            self._check_clean_exchange(letter)

    def _take_in(self, letter: Letter) -> None:
        reply = letter.reply
        known = self.model.known.get(reply.key)
        if reply.kind == "skip":
            assert known is not None
            assert known.last is not None
            assert not letter.request.force
            return
        self.uploads += 1
        noted = letter.state.pending
        assert noted is not None
        examples = letter.worker.oracle.num_examples
        weight = float(examples) if self.setup.weights == "examples" else 1.0
        held = self._held(letter, noted, known)
        self.model.accept(reply.key, held, weight, self.setup.sum_only)

    def _held(self, letter: Letter, noted: Slot, known: Known | None) -> Held:
        reply, request = letter.reply, letter.request
        if reply.kind == "full":
            codec = codec_of(request.full_codec, reply.key)
            h = self._rounded(wire.decode(reply.payload, codec, SIZE))
            return Held(noted, h, request.theta, request.round, full=True)
        self.innovations += 1
        assert known is not None
        assert known.last is not None
        codec = codec_of(self.setup.codec, reply.key)
        gain = codec.innovation_gain(SIZE)
        moved = wire.decode(reply.payload, codec, SIZE, gain)
        h = self._rounded(known.last.h + moved)
        return Held(noted, h, request.theta, request.round, full=False)

    def _rounded(self, h: F32 | F64) -> F32 | F64:
        if self.setup.sum_only:
            return np.asarray(h, np.float64)
        return np.asarray(h, np.float32)

    # --- evaluation, and versions of the model -----------------------------------

    def ask_for_evaluation(self, keys: list[int]) -> None:
        """Send requests to evaluate the model, between two rounds."""
        self.close()
        nodes = [self.nodes[key] for key in keys]
        broadcast = self.server.broadcast
        self.evaluations += broadcast.evaluate(nodes, self.server.round)

    def evaluate(self, index: int, lost: bool = False) -> bool | None:
        """Deliver a request to evaluate, and its answer unless it is lost.

        Returns None if the request came too late to be answered.
        """
        node, request = self.evaluations[index]
        key = next((k for k, n in self.nodes.items() if n == node), None)
        if key is None:
            return None
        worker = self.workers[key]
        before, sent = worker.state, as_it_travels(request)
        worker.state, found, reply = evaluated(before, key, sent.head(), sent)
        if reply is None:
            assert worker.state is before
            return None
        if found is None:
            assert worker.state is before
            assert reply.holds == (before.model and before.model.id)
        else:
            self.evaluated += 1
            assert same(found.theta, request.theta), "evaluated another model"
            assert reply.holds == request.model
        self.earlier[key] = before
        if lost:
            return False
        latest = reply.session == self.server.session
        latest &= reply.turn == self.server.broadcast.turn
        counted = self.server.broadcast.evaluated(node, reply)
        assert not counted or (latest and found is not None)
        return counted

    def _check_model(
        self, worker: LasgWorker, before: WorkerState, request: Request, reply: Reply
    ) -> None:
        """A gradient is at the model that the server means, or there is none."""
        oracle, held = worker.oracle, before.model
        assert isinstance(oracle, CoarseOracle)
        self.paths += bool(request.path and request.path.steps)
        if reply.kind == "no-model":
            assert worker.state is before, "a refusal changed the state"
            assert reply.holds == (held and held.id)
            assert request.path is not None, "a dense model was refused"
        else:
            assert oracle.last is not None
            assert same(oracle.last, request.theta), "computed at another model"
            assert reply.holds == request.model
        self._check_versions()

    def _check_versions(self) -> None:
        """Equal ids mean equal bits, at the server and at every worker."""
        broadcast = self.server.broadcast
        seen = [(broadcast.model, broadcast.theta)]
        for worker in self.workers.values():
            if (model := worker.state.model) is not None:
                seen.append((model.id, model.theta))
        for id_, theta in seen:
            if id_ is not None:
                bits = theta.tobytes()
                assert self.versions.setdefault(id_, bits) == bits, "equal model ids"
        size = sum(len(s.payload) + len(s.after) for s in broadcast.ring)
        assert size <= broadcast.dense_bytes

    # --- what must hold ----------------------------------------------------------

    def check(self) -> None:
        """S = Σ w h, and equal ids mean equal vectors."""
        self._check_sum()
        assert self.server.roster.records.keys() == self.model.known.keys()
        for key in self.model.known:
            self._check_record(key)
        if isinstance(self.server.rule, ServerRule):
            self._check_iterates()

    def _check_sum(self) -> None:
        total, weight, scale = self.model.total()
        aggregate = self.server.sum
        bound = 1e-9 if self.setup.sum_only else 1e-12
        assert aggregate.weight == weight
        error = float(np.linalg.norm(aggregate.total - total))
        assert error <= bound * scale, f"S is off by {error:.3g} of {scale:.3g}"

    def _check_record(self, key: int) -> None:
        known, record = self.model.known[key], self.server.roster.records[key]
        assert self.server.memory.waits(record) == known.lost_state
        assert record.weight == known.weight
        last = known.last
        assert record.id == (None if last is None else last.noted.id)
        if last is None:
            return
        assert record.round == last.round
        for slot in self._slots(key):
            if slot.id == record.id:
                self._check_slot(slot, last)

    def _check_slot(self, slot: Slot, last: Held) -> None:
        if h_of(slot) is not None:
            assert same(h_of(slot), last.h), "equal ids, other h"
        theta = getattr(slot.rule, "theta", None)
        if theta is not None:
            assert same(theta, last.theta), "equal ids, other theta"
        assert slot.round == last.round, "equal ids, other round"

    def _check_iterates(self) -> None:
        """Just the θ still in use are stored, and they are those of the uploads."""
        users: dict[int, int] = {}
        for known in self.model.known.values():
            age = self.server.round - known.round
            if known.last is not None and age < self.setup.max_delay:
                users[known.round] = users.get(known.round, 0) + 1
                stored = self.server.iterates.get(known.round)
                assert stored is not None
                assert same(stored, known.last.theta)
        assert {r: e.users for r, e in self.server.iterates.entries.items()} == users

    def _slots(self, key: int) -> list[Slot]:
        state = self.workers[key].state
        return [s for s in (state.committed, state.pending) if s is not None]

    def agrees(self, key: int) -> bool:
        """Whether the worker has the upload that the server knows it by."""
        id_ = self.server.roster.records[key].id
        return id_ is not None and any(slot.id == id_ for slot in self._slots(key))

    def _check_clean_exchange(self, letter: Letter) -> None:
        """One exchange that nothing went wrong in leaves both sides agreed."""
        key = letter.reply.key
        if self.workers[key].state is not letter.state:
            return
        if letter.state.model is not None:
            hold = self.server.broadcast.holds[letter.node]
            assert hold.id == letter.state.model.id, "a report was not heard"
        known = self.model.known[key]
        if known.last is None:
            assert self.setup.sum_only
        else:
            assert self.agrees(key)

    def _check_request(self, key: int, request: Request | None) -> None:
        """Whoever is D rounds old, or unknown at this node, must upload."""
        known = self.model.known.get(key)
        record = self.server.roster.records.get(key)
        moved = record is not None and record.node != self.nodes[key]
        if known is None or moved:
            assert request is not None
            assert request.force
            assert request.accepted_id is None
        elif known.lost_state:
            assert request is None
        elif known.last is None or self._age(key) >= self.setup.max_delay:
            assert request is not None
            assert request.force

    def _age(self, key: int) -> float:
        known = self.model.known.get(key)
        return inf if known is None else self.server.round - known.round

    # --- recovery ----------------------------------------------------------------

    def clean_round(self) -> None:
        """Run a round that reaches everybody and loses nothing."""
        self.open(sorted(self.workers))
        for index in range(len(self.requests) - len(self.asked), len(self.requests)):
            answer = self.deliver_request(index)
            assert answer is not None, "a clean request was ignored"
            kept = self.deliver_reply(answer).kept
            self._note_clean(self.letters[answer].reply.key, kept)
            node = self.letters[answer].node
            if not kept and node in self.asked:  # it was asked once more
                again = self.deliver_request(len(self.requests) - 1)
                assert again is not None
                assert self.deliver_reply(again).kept
                self.refusals[self.letters[again].reply.key] = 0
        self.close()

    def clean_evaluation(self) -> None:
        """Evaluate at everybody, and lose nothing."""
        self.ask_for_evaluation(sorted(self.workers))
        count = len(self.workers)
        for index in range(len(self.evaluations) - count, len(self.evaluations)):
            counted = self.evaluate(index)
            assert counted is not None, "a clean request was ignored"
            node = self.evaluations[index][0]
            key = next(k for k, n in self.nodes.items() if n == node)
            self._note_clean(key, counted)

    def _note_clean(self, key: int, kept: bool) -> None:
        self.refusals[key] = 0 if kept else self.refusals.get(key, 0) + 1
        assert self.refusals[key] < 2, "two clean exchanges in a row were refused"

    def recover(self) -> None:
        """All are agreed after D + 2 clean rounds, under sum-only memory 2D + 2.

        There a worker that lost what was set staged of it is found out after the new
        start only, at D at the latest, and waits D rounds for the next.
        """
        delay = self.setup.max_delay
        self.refusals = {}
        coded = self.setup.downlink != "dense"
        rounds = (2 * delay if self.setup.sum_only else delay) + 2 + coded
        for _ in range(rounds):
            self.clean_round()
            if coded:
                self.clean_evaluation()
        for key, known in self.model.known.items():
            assert self.agrees(key), f"worker {key} is not agreed"
            assert known.in_sum is known.last, f"worker {key} is not in S"
            assert not known.lost_state, f"worker {key} is still lost_state"
            assert self._age(key) <= delay, f"worker {key} was left unrefreshed"
