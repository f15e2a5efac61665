"""A long run in which nearly everything fails, and what must hold all along."""

import json
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

from lasg_flwr.codecs import Dense, wire
from lasg_flwr.memory import SumOnly
from lasg_flwr.memory.per_worker import held_by
from lasg_flwr.protocol import LasgWorker
from lasg_flwr.protocol.messages import Reply, Request
from lasg_flwr.protocol.saving import Capture, capture, restore
from lasg_flwr.protocol.server import LasgServer
from lasg_flwr.vectors import F32, F64
from tests.problems.least_squares import LeastSquares, Running, least_squares
from tests.problems.servers import h_of, server_for

WORKERS = 20
DELAY = 100


@dataclass(frozen=True)
class Odds:
    """Probabilities of each fault, for each worker and round."""

    request_lost: float = 0.1
    reply_lost: float = 0.1
    stray: float = 0.05
    restart: float = 0.01
    server: float = 1 / 500


CALM = Odds(0.0, 0.0, 0.0, 0.0, 0.0)


def oracles(seed: int) -> list[LeastSquares]:
    return least_squares(WORKERS, size=10, examples=40, seed=seed)


def loss(problem: list[LeastSquares], theta: F32) -> float:
    return float(np.mean([oracle.evaluate(theta)[0] for oracle in problem]))


@dataclass
class Book:
    """What S is made of, by key, where the server keeps no h: found from the workers.

    A worker's h is noted when it sends an upload, by that upload's id. `in_sum` is
    what is in S, `staged` what waits for a new start.
    """

    sent: dict[bytes, F64] = field(default_factory=dict)
    in_sum: dict[int, F64] = field(default_factory=dict)
    staged: dict[int, F64] = field(default_factory=dict)

    def note(self, worker: LasgWorker) -> None:
        """Note what a worker has just sent."""
        slot = worker.state.pending
        if slot is not None and h_of(slot) is not None:
            self.sent[slot.id] = h_of(slot).astype(np.float64)

    def update(self, server: LasgServer, new_start: bool) -> None:
        """Follow a round that has closed, under sum-only memory."""
        if not isinstance(server.memory, SumOnly):
            return
        if new_start:
            self.in_sum, self.staged = self.staged, {}
        for record in server.roster.sorted():
            if record.id is None:
                continue
            if getattr(record.memory, "staged", False):
                self.staged.setdefault(record.key, self.sent[record.id])
            elif record.memory.in_sum and not server.memory.waits(record):
                self.in_sum[record.key] = self.sent[record.id]

    def held(self, server: LasgServer) -> dict[int, F64]:
        """Return h of each worker that is part of S."""
        if isinstance(server.memory, SumOnly):
            return self.in_sum
        return {
            record.key: held_by(record, server.theta.size).astype(np.float64)
            for record in server.roster.sorted()
            if record.memory.in_sum
        }


class Chaos:
    """Server, workers, and a network that loses, delays and repeats.

    Parameters
    ----------
    seed : int
        Of problem and faults.
    odds : Odds
        Of the faults.
    options : dict
        Arguments of `LasgServer`.
    """

    def __init__(self, seed: int, odds: Odds, **options: Any) -> None:
        self.problem = oracles(seed)
        self.odds = odds
        self.options: dict[str, Any] = {"step": 0.05, "seed": seed, **options}
        self.rng = np.random.default_rng([seed, 99])
        self.server = self._new_server()
        self.workers = [self._new_worker(key) for key in range(WORKERS)]
        self.arrived: dict[int, F32] = {}
        self.book = Book()
        self.late_requests: list[tuple[int, Request]] = []
        self.late_replies: list[tuple[int, Reply]] = []
        self.saved = self._capture()
        self.restores = self.wipes = self.lost = self.strays = 0
        self.idle = self.longest_idle = 0
        self.worst = 0.0
        self.agreed = self.paths = 0
        self.losses: list[float] = []

    def _new_server(self) -> LasgServer:
        theta = np.zeros(self.problem[0].size, np.float32)
        return server_for(theta, **self.options)

    def _new_worker(self, key: int) -> LasgWorker:
        oracle = self.problem[key]
        return LasgWorker(Running(oracle) if "buffers" in self.options else oracle, key)

    def _capture(self) -> Any:
        arrays, meta = capture(self.server)
        return (
            arrays,
            json.loads(json.dumps(meta)),
            dict(self.book.in_sum),
            dict(self.book.staged),
        )

    def _happens(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def run(self, rounds: int) -> F32:
        """Play rounds until `rounds` are in the server's book; return the last θ."""
        while self.server.round < rounds:
            self._restarts()
            self._round()
            self._check_round()
            if self.server.round > 0.8 * rounds:
                self.losses.append(loss(self.problem, self.server.theta))
            if self.server.round % 50 == 0:
                self.saved = self._capture()
        return self.server.theta

    @property
    def final_loss(self) -> float:
        """Mean loss of the last fifth of the rounds: one round's is noise of 5 %."""
        return float(np.mean(self.losses))

    def _restarts(self) -> None:
        if self._happens(self.odds.server):
            self.restores += 1
            self.server = self._new_server()
            arrays, meta, in_sum, staged = self.saved
            restore(self.server, Capture(arrays, meta))
            self.book.in_sum, self.book.staged = dict(in_sum), dict(staged)
        for key in range(WORKERS):
            if self._happens(self.odds.restart):
                self.wipes += 1
                self.workers[key] = self._new_worker(key)

    def _round(self) -> None:
        for node, request in self.server.open_round(range(WORKERS)):
            if self._happens(self.odds.request_lost):
                self.lost += 1
                continue
            if self._happens(self.odds.stray):
                self.late_requests.append((node, request))
            self._answer(node, request)
        self._strays()
        before, buffers = self.server.round, self.server.buffers
        report = self.server.close_round()
        assert self.server.round == before + 1
        self._check_buffers(buffers)
        self.book.update(self.server, report.new_start)
        self.idle = 0 if report.uploaded else self.idle + 1
        self.longest_idle = max(self.longest_idle, self.idle)

    def _answer(self, node: int, request: Request) -> None:
        reply = self.workers[node].handle(request)
        if reply is None:
            return
        model = self.workers[node].state.model
        if request.model is not None and reply.kind != "no-model":
            assert model is not None
            assert model.id == request.model == reply.holds
            assert np.array_equal(model.theta, request.theta)
        self.paths += bool(request.path and request.path.steps)
        self.book.note(self.workers[node])
        if self._happens(self.odds.reply_lost):
            self.lost += 1
        elif self._happens(self.odds.stray):
            self.late_replies.append((node, reply))
        else:
            self._receive(node, reply)

    def _receive(self, node: int, reply: Reply) -> None:
        if self.server.receive(node, reply).kept and reply.buffers:
            values = wire.decode(reply.buffers, Dense(), Running.width)
            self.arrived[reply.key] = values

    def _check_buffers(self, before: F32) -> None:
        """b is the mean of what this round's uploads brought, or what it was."""
        total, weight = np.zeros(Running.width), 0.0
        for key in sorted(self.arrived):
            w = self.server.roster.records[key].weight
            total += w * self.arrived[key].astype(np.float64)
            weight += w
        expected = (total / weight).astype(np.float32) if weight else before
        assert self.server.buffers.tobytes() == expected.tobytes()
        self.arrived.clear()

    def _strays(self) -> None:
        """Deliver what is late: repeated requests, and replies of earlier rounds."""
        for queue in (self.late_requests, self.late_replies):
            del queue[:-20]
        while self.late_requests and self._happens(0.5):
            self.strays += 1
            node, request = self._draw(self.late_requests)
            self._answer(node, request)
        while self.late_replies and self._happens(0.5):
            self.strays += 1
            self._receive(*self._draw(self.late_replies))

    def _draw(self, queue: list[Any]) -> Any:
        return queue.pop(int(self.rng.integers(len(queue))))

    def _check_round(self) -> None:
        """S = Σ w h, and whoever has the id that the server knows has its h."""
        held = self.book.held(self.server)
        self.worst = max(self.worst, sum_error(self.server, held))
        for record in self.server.roster.sorted():
            if (
                self.server.memory.waits(record)
                or getattr(record.memory, "staged", False)
                or not record.memory.in_sum
            ):
                continue
            state = self.workers[record.key].state
            for slot in (state.committed, state.pending):
                if slot is not None and slot.id == record.id and h_of(slot) is not None:
                    assert np.array_equal(h_of(slot), held[record.key])
                    self.agreed += 1


def sum_error(server: LasgServer, held: dict[int, F64]) -> float:
    """Return ‖S − Σ w h‖ / Σ w ‖h‖; inf if W is not Σ w."""
    total = np.zeros_like(server.sum.total)
    weight = scale = 0.0
    for key in sorted(held):
        w = server.roster.records[key].weight
        total += w * held[key]
        scale += w * float(np.linalg.norm(held[key]))
        weight += w
    if abs(weight - server.sum.weight) > 1e-9:
        return inf
    error = float(np.linalg.norm(server.sum.total - total))
    return error / scale if scale else error
