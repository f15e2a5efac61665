"""Sparse local SGD as the Flower tests run it, and what must hold under faults.

For every device, what the server accepted and the error that the device keeps add up to
all that it ever computed; and θ moves by exactly what was accepted.
"""

from collections import defaultdict
from typing import Any

import numpy as np
from flwr.app import Context

from experiments.inprocess import InProcessGrid
from lasg_flwr import LasgConfig, LasgServer, simulate
from lasg_flwr.codecs import wire
from lasg_flwr.codecs.assignment import codec_of
from lasg_flwr.oracles.base import Oracle
from lasg_flwr.oracles.batches import BatchSchedule, ScheduledBatches
from lasg_flwr.oracles.local import LocalSteps
from lasg_flwr.protocol import WorkerState
from lasg_flwr.protocol.messages import Reply
from lasg_flwr.protocol.rounds import Verdict
from lasg_flwr.protocol.saving import load_worker
from lasg_flwr.strategies import LasgStrategy
from lasg_flwr.vectors import F32, F64
from tests.problems.flower_app import client_fn_of, vector_of
from tests.problems.least_squares import sized
from tests.problems.servers import h_of

WORKERS, SIZE, ROUNDS = 4, 6, 40
CODECS = ["topk:k=1", "topk:k=2", "topk:fraction=0.5"]
OPTIONS: dict[str, Any] = {
    "rule": "sgd",
    "codec": CODECS,
    "memory": "error",
    "step": 1.0,
    "seed": 4,
}
FLOWER = {**OPTIONS, "fraction_evaluate": 0.0, "min_train_nodes": WORKERS}
TOTALS: dict[int, F64] = {}
"""Σ u of each device: clients are built anew for every message."""


class Noted(LocalSteps):
    """Local steps that add up what they return."""

    def gradient(self, theta: F32, batch: Any) -> F32:
        update = super().gradient(theta, batch)
        key: int = self.__dict__["key"]
        TOTALS[key] = TOTALS.get(key, np.zeros(SIZE)) + update
        return update


def oracle(key: int) -> Oracle:
    growing = ScheduledBatches(sized(WORKERS)[key], BatchSchedule(2, 1.05))
    noted = Noted(growing, 3, 0.05)
    noted.__dict__["key"] = key
    return noted


client_fn = client_fn_of(oracle)


def engine() -> F32:
    TOTALS.clear()
    oracles = [oracle(key) for key in range(WORKERS)]
    result = simulate(oracles, np.zeros(SIZE), rounds=ROUNDS, **OPTIONS)
    TOTALS.clear()
    return result.theta


def state_of(context: Context) -> Any:
    state = context.state.config_records["lasg.state"]["worker"]
    assert isinstance(state, bytes)
    settings = LasgConfig(**OPTIONS).settings
    return load_worker(state, settings)


class Watch:
    """What a server accepted, from each device; θ must move by each round's mean."""

    def __init__(self, server: LasgServer) -> None:
        self.accepted: dict[int, F64] = defaultdict(lambda: np.zeros(SIZE))
        self.server = server
        self._receive, self._close = server.receive, server.close_round
        self._round, self._count = np.zeros(SIZE), 0
        server.receive = self.receive  # type: ignore[method-assign]
        server.close_round = self.close  # type: ignore[method-assign]

    def receive(self, node: int, reply: Reply) -> Verdict:
        verdict = self._receive(node, reply)
        if verdict.kept:
            codec = codec_of(self.server.settings.codec, reply.key)
            decoded = wire.decode(reply.payload, codec, SIZE)
            self.accepted[reply.key] += decoded
            self._round += decoded
            self._count += 1
        return verdict

    def close(self) -> Any:
        before = self.server.theta
        report = self._close()
        moved = (before - self._round / max(self._count, 1)).astype(np.float32)
        assert self.server.theta.tobytes() == moved.tobytes()
        self._round, self._count = np.zeros(SIZE), 0
        return report

    def check(self, key: int, state: WorkerState) -> None:
        """Σ accepted + e_m = Σ u."""
        pending = state.pending
        assert pending is not None
        accepted = pending.id == self.server.roster.records[key].id
        kept: Any = h_of(pending) if accepted else pending.memory.lost
        total = self.accepted[key] + kept
        np.testing.assert_allclose(total, TOTALS[key], rtol=0, atol=1e-10)


def start(strategy: LasgStrategy, grid: InProcessGrid) -> F32:
    result = strategy.start(grid, vector_of(SIZE), ROUNDS)
    theta: F32 = result.arrays["theta"].numpy()
    return theta
