"""An independent model of the protocol, and a driver for faulty histories.

`History` holds the real server and workers, every message that was ever sent, and the
model: what each accepted upload *is*, found by decoding the replies that the server
kept, not by looking into the server. Its methods are single events; `play` draws them
from a seeded generator, the hypothesis machine of `test_protocol_stateful` by itself.
"""

import copy
import json
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

import numpy as np
import pytest

from lasg_flwr import wire
from lasg_flwr.codecs import CODECS, Codec
from lasg_flwr.coding.entropy import Buffer
from lasg_flwr.cycle import codec_of
from lasg_flwr.errors import WireError
from lasg_flwr.messages import Reply, Request
from lasg_flwr.rounds import Verdict
from lasg_flwr.rules import ServerRule
from lasg_flwr.server import LasgServer, Weighting
from lasg_flwr.settings import Memory, ServerMemory
from lasg_flwr.snapshot import capture, restore
from lasg_flwr.vectors import F32, F64
from lasg_flwr.worker import LasgWorker, Slot, WorkerState

SIZE = 3
MAX_WORKERS = 5
_CENTRES = np.array([[1, -1, 0], [0, 1, -1], [1, 1, 1]], np.float32)


@dataclass(frozen=True)
class Coin(Codec):
    """Keep each coordinate with probability 1/2, doubled: unbiased, ω = 1."""

    name: ClassVar[str] = "test-coin"
    tag: ClassVar[int] = 201
    stochastic: ClassVar[bool] = True

    def omega(self, size: int) -> float:
        return 1.0

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        if rng is None:
            raise ValueError("this codec draws random numbers")
        kept = rng.integers(0, 2, x.size).astype(np.float32)
        return (2 * kept * x).astype("<f4").tobytes()

    def decode(self, body: Buffer, size: int) -> F32:
        if len(body) != 4 * size:
            raise WireError("a coin body of a wrong length")
        return np.frombuffer(body, "<f4")


@dataclass(frozen=True)
class Powers(Codec):
    """Signs times mean |x| rounded down to a power of two: contractive, α = 1/(2p)."""

    name: ClassVar[str] = "test-powers"
    tag: ClassVar[int] = 202

    def alpha(self, size: int) -> float:
        return 0.5 / size

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        scale = float(np.abs(x).mean(dtype=np.float64))
        power = -100 if scale < 2.0**-100 else int(np.floor(np.log2(scale)))
        return struct.pack("<b", power) + np.sign(x).astype(np.int8).tobytes()

    def decode(self, body: Buffer, size: int) -> F32:
        if len(body) != 1 + size:
            raise WireError("a powers body of a wrong length")
        signs = np.frombuffer(body, np.int8, size, 1)
        return signs.astype(np.float32) * np.float32(
            2.0 ** struct.unpack_from("b", body)[0]
        )


@contextmanager
def coarse_codecs() -> Iterator[None]:
    """Register the codecs of this module for the time of a test."""
    with pytest.MonkeyPatch.context() as patch:
        for codec in (Coin, Powers):
            patch.setitem(CODECS, codec.name, codec)
            patch.setitem(wire._BY_TAG, codec.tag, codec)
        yield


@dataclass(frozen=True)
class Setup:
    """Arguments of a run."""

    rule: str
    codec: str
    memory: Memory = "innovation"
    server_memory: ServerMemory = "per-worker"
    weights: Weighting = "equal"
    full_codec: str | None = None
    gone_share: float = 0.5
    max_delay: int = 4
    c: float = 0.5

    @property
    def sum_only(self) -> bool:
        return self.server_memory == "sum-only"

    def server(self) -> LasgServer:
        """Return a new server, in a new session."""
        head, _, tail = self.rule.partition(":")
        options = f"c={self.c},d_max=2,max_delay={self.max_delay}"
        return LasgServer(
            np.zeros(SIZE, np.float32),
            f"{head}:{options}" + (f",{tail}" if tail else ""),
            self.codec,
            memory=self.memory,
            server_memory=self.server_memory,
            step=0.5,
            weights=self.weights,
            full_codec=self.full_codec,
            gone_share=self.gone_share,
        )


RULES = ("sgd", "lag", "wk1", "wk2", "ps:smoothness=1.0", "pse")
LOSSY = ("topk:k=1", "test-powers", "test-coin")
CYCLE = "test-coin;topk:k=1;dense;topk:k=2"
MEMORIES: dict[tuple[Memory, ServerMemory], tuple[str, ...]] = {
    ("gradient", "per-worker"): ("dense", "test-coin", "test-coin;dense"),
    ("innovation", "per-worker"): ("dense", *LOSSY, CYCLE),
    ("innovation", "sum-only"): ("dense", *LOSSY, CYCLE),
}


def random_setup(
    rng: np.random.Generator,
    rules: Sequence[str] = RULES,
    memories: Sequence[tuple[Memory, ServerMemory]] = tuple(MEMORIES),
) -> Setup:
    """Draw a setup; memories, rules and codecs are equally likely."""
    memory, server_memory = memories[int(rng.integers(len(memories)))]
    codec = str(rng.choice(MEMORIES[memory, server_memory]))
    sparse = memory == "innovation" and codec != "dense"
    return Setup(
        rule=str(rng.choice(rules)),
        codec=codec,
        memory=memory,
        server_memory=server_memory,
        weights="examples" if rng.random() < 0.5 else "equal",
        full_codec="dense" if sparse and rng.random() < 0.5 else None,
        gone_share=float(rng.choice([0.0, 0.4, 1.0])),
        max_delay=int(rng.integers(2, 7)),
        c=float(rng.choice([0.5, 5.0, 50.0])),
    )


class CoarseOracle:
    """Small integer gradients that are often equal, and no promise kept.

    The batch does not come from the keyed generator: answering one request twice
    gives two gradients, as on a machine that adds up in another order every time.
    """

    size = SIZE

    def __init__(self, num_examples: int, dice: np.random.Generator) -> None:
        self.num_examples = num_examples
        self._dice = dice

    def draw(self, rng: np.random.Generator) -> int:
        return int(self._dice.integers(len(_CENTRES)))

    def gradient(self, theta: F32, batch: int) -> F32:
        pull = np.clip(np.rint(theta), -2, 2)
        return np.asarray(_CENTRES[batch] + pull, np.float32)


@dataclass(frozen=True)
class Letter:
    """A reply on its way: where from, what it answers, the worker's state then."""

    node: int
    reply: Reply
    request: Request
    worker: LasgWorker
    state: WorkerState


@dataclass(frozen=True)
class Held:
    """An accepted upload: what the worker noted of it, and what it decodes to."""

    noted: Slot
    h: F32 | F64
    theta: F32
    round: int
    full: bool


@dataclass
class Known:
    """The model of a server's record.

    `last` is what its id stands for, `counted` what is in S, `aside` what waits for
    a new start.
    """

    weight: float
    last: Held | None = None
    counted: Held | None = None
    aside: Held | None = None
    gone: bool = False
    round: int = 0


@dataclass
class Model:
    """The model of a server between two rounds."""

    known: dict[int, Known] = field(default_factory=dict)

    def total(self) -> tuple[F64, float, float]:
        """Return Σ w h, Σ w, and the scale Σ w ‖h‖."""
        total, weight, scale = np.zeros(SIZE), 0.0, 0.0
        for known in self.known.values():
            if known.counted is not None:
                h = known.counted.h.astype(np.float64)
                total += known.weight * h
                weight += known.weight
                scale += known.weight * float(np.linalg.norm(h))
        return total, weight, scale

    def accept(self, key: int, held: Held, weight: float, sum_only: bool) -> None:
        """Take in a kept upload."""
        known = self.known.setdefault(key, Known(weight))
        stuck = sum_only and held.full and known.counted is not None
        if stuck and known.aside is not None:
            known.last = None
            return
        if stuck:
            known.aside, known.gone = held, True
        else:
            known.counted = held
        known.last, known.round = held, held.round

    def leave(self, key: int, sum_only: bool) -> None:
        """A worker is taken out."""
        known = self.known[key]
        if not sum_only:
            known.counted = None
        known.gone = sum_only and known.counted is not None
        known.last = None

    def new_start(self, round_: int, max_delay: int, share: float) -> bool:
        """Begin anew if it is time; return whether."""
        gone = [known for known in self.known.values() if known.gone]
        members = [known for known in self.known.values() if known.counted]
        overdue = any(
            round_ - known.counted.round >= max_delay for known in gone if known.counted
        )
        if not gone or not (overdue or len(gone) > share * len(members)):
            return False
        for known in self.known.values():
            known.counted, known.aside = known.aside, None
            if known.counted is None:
                known.last = None
            known.gone = known.counted is not None and known.last is None
        return True


@dataclass(frozen=True)
class Checkpoint:
    """A server's saved state, with the model of that moment."""

    arrays: dict[str, Any]
    meta: dict[str, Any]
    model: Model
    theta: F32


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal to the bit; arrays by dtype and content."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    return type(a) is type(b) and bool(a == b)


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

    def _start(self, key: int, state: WorkerState | None, new_node: bool) -> None:
        oracle = CoarseOracle(int(self.dice.integers(1, 4)), self.dice)
        self.workers[key] = LasgWorker(oracle, key, state)
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
        self.checkpoints.append(Checkpoint(arrays, meta, model, self.server.theta))

    def restore(self, index: int) -> None:
        """The server dies, even within a round, and starts from a checkpoint."""
        saved = self.checkpoints[index % len(self.checkpoints)]
        self.restores += 1
        self.server = self.setup.server()
        restore(self.server, saved.arrays, saved.meta)
        self.model = copy.deepcopy(saved.model)
        self.asked, self.kept, self.is_open = {}, [], False
        assert same(self.server.theta, saved.theta)
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
        reply = worker.handle(request)
        if reply is None:
            assert worker.state is before
            assert before.answered is not None
            assert before.answered >= (request.session, request.round)
            return None
        self.earlier[worker.key] = before
        self.letters.append(Letter(node, reply, request, worker, worker.state))
        return len(self.letters) - 1

    def deliver_reply(self, index: int) -> Verdict:
        """Deliver the reply at `index`, at any time and any number of times."""
        letter = self.letters[index]
        reply = letter.reply
        expected = (
            self.is_open
            and (reply.session, reply.round) == (self.server.session, self.server.round)
            and letter.node in self.asked
            and all(letter.node != k.node for k in self.kept)
            and all(reply.key != k.reply.key for k in self.kept)
        )
        verdict = self.server.receive(letter.node, reply)
        assert verdict.kept == expected, verdict
        if verdict.kept:
            mark = (reply.session, reply.round, reply.key)
            assert mark not in self.applied, "applied twice"
            self.applied.add(mark)
            self.kept.append(letter)
        return verdict

    def close(self) -> None:
        """Close the round, if one is open, and compare everything with the model."""
        if not self.is_open:
            return
        round_ = self.server.round
        before = self.server.theta
        for letter in self.kept:
            self._take_in(letter)
        weight = self.model.total()[1]
        report = self.server.close_round()
        assert report.moved == (weight > 0)
        assert report.moved or self.server.theta is before
        setup = self.setup
        assert report.new_start == (
            setup.sum_only
            and self.model.new_start(round_, setup.max_delay, setup.gone_share)
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
        aggregate = self.server.aggregate
        bound = 1e-9 if self.setup.sum_only else 1e-12
        assert aggregate.weight == weight
        error = float(np.linalg.norm(aggregate.total - total))
        assert error <= bound * scale, f"S is off by {error:.3g} of {scale:.3g}"

    def _check_record(self, key: int) -> None:
        known, record = self.model.known[key], self.server.roster.records[key]
        assert record.gone == known.gone
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
        if slot.h is not None:
            assert same(slot.h, last.h), "equal ids, other h"
        if slot.evidence.theta is not None:
            assert same(slot.evidence.theta, last.theta), "equal ids, other theta"
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
        assert {r: n for r, _, n in self.server.iterates.items()} == users

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
            assert request.have is None
        elif known.gone:
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
            assert answer is not None
            assert self.deliver_reply(answer).kept
        self.close()

    def recover(self) -> None:
        """All are agreed after D + 2 clean rounds, under sum-only memory 2D + 2.

        There a worker that lost what was set aside of it is found out after the new
        start only, at D at the latest, and waits D rounds for the next.
        """
        delay = self.setup.max_delay
        for _ in range((2 * delay if self.setup.sum_only else delay) + 2):
            self.clean_round()
        for key, known in self.model.known.items():
            assert self.agrees(key), f"worker {key} is not agreed"
            assert known.counted is known.last, f"worker {key} is not in S"
            assert not known.gone, f"worker {key} is still gone"
            assert self._age(key) <= delay, f"worker {key} was left unrefreshed"


@dataclass(frozen=True)
class Odds:
    """Probabilities of the faults of one history."""

    lost: float
    late: float
    restart: float
    server: float


_CALM = Odds(0.02, 0.05, 0.02, 0.02)
_ROUGH = Odds(0.15, 0.3, 0.1, 0.06)
_WILD = Odds(0.3, 0.6, 0.3, 0.12)
_CRASHING = Odds(0.03, 0.6, 0.15, 0.3)


class Driver:
    """Draws a history's events from a generator."""

    def __init__(self, seed: int, **choices: Any) -> None:
        self.rng = np.random.default_rng([seed, 0])
        setup = random_setup(self.rng, **choices)
        self.odds = (_CALM, _ROUGH, _WILD, _CRASHING)[self.rng.integers(4)]
        self.history = History(setup, seed, int(self.rng.integers(1, 4)))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def play(self, rounds: int) -> History:
        """Run faulty rounds, then let everybody recover."""
        for _ in range(rounds):
            self._between()
            self._round()
        self.history.recover()
        return self.history

    def _between(self) -> None:
        history = self.history
        for key in list(history.workers):
            self._restart(key)
        if self.chance(self.odds.restart / 2):
            history.join()
        if self.chance(self.odds.restart / 3):
            history.leave(int(self.rng.choice(list(history.workers))))
        if self.chance(0.3):
            history.checkpoint()
        if self.chance(self.odds.server):
            back = 1 + int(self.rng.integers(4))
            history.restore(max(0, len(history.checkpoints) - back))

    def _restart(self, key: int) -> None:
        if self.chance(self.odds.restart):
            new_node = self.chance(0.4)
            if self.chance(0.5):
                self.history.wipe(key, new_node)
            else:
                self.history.rewind(key, new_node)

    def _round(self) -> None:
        history = self.history
        reach = [k for k in history.workers if not self.chance(self.odds.lost)]
        history.open(reach)
        count = len(history.asked)
        for offset in self.rng.permutation(count):
            if not self.chance(self.odds.lost):
                self._exchange(len(history.requests) - count + int(offset))
            self._stray()
        history.close()

    def _exchange(self, index: int) -> None:
        answer = self.history.deliver_request(index)
        if answer is None or self.chance(self.odds.lost):
            return
        letter = self.history.letters[answer]
        if self.chance(self.odds.restart):
            self.history.rewind(letter.reply.key)
            if self.chance(0.5):
                self.history.deliver_request(index)
        self.history.deliver_reply(answer)

    def _stray(self) -> None:
        """Something old, late or repeated arrives."""
        history = self.history
        if self.chance(self.odds.late):
            back = int(self.rng.integers(1, 25))
            answer = history.deliver_request(max(0, len(history.requests) - back))
            if answer is not None and self.chance(0.7):
                history.deliver_reply(answer)
        if history.letters and self.chance(self.odds.late):
            back = int(self.rng.integers(1, 15))
            history.deliver_reply(max(0, len(history.letters) - back))


def play(seed: int, rounds: int = 25, **choices: Any) -> History:
    """Run the random history of a seed; AssertionError if the protocol broke.

    `choices` are the keywords of `random_setup`.
    """
    return Driver(seed, **choices).play(rounds)
