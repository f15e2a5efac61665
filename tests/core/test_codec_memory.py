"""Codecs in the two memories: equal vectors on both sides, and stable runs."""

import numpy as np
import pytest

from lasg_flwr import Oracle
from lasg_flwr.codecs import Codec, codec_from, wire
from lasg_flwr.codecs.coding import range_coder
from lasg_flwr.config import MemoryName, ServerMemoryName
from lasg_flwr.errors import LasgError
from lasg_flwr.memory.per_worker import held_by
from lasg_flwr.protocol import LasgWorker
from lasg_flwr.protocol.server import LasgServer
from lasg_flwr.simulation import simulate
from lasg_flwr.vectors import F32
from tests.problems.codec_cases import cases
from tests.problems.protocol.driver import play
from tests.problems.protocol.setups import MEMORIES, RULES
from tests.problems.servers import h_of, server_for

ROUNDS, SIZE, WORKERS = 2_000, 21, 2
SPECS = (
    "dense",
    "qsgd:bits=4,bucket=8",
    "qsgd:bits=2,bucket=0,norm=l2,entropy=range",
    "uniform:bits=3",
    "sign",
    "natural",
    "float16",
    "topk:k=3",
    "randk:k=5",
    "topk-qsgd:k=6,bits=3",
    "ecsq:error=0.5",
)
UNBIASED = tuple(s for s in SPECS if codec_from(s).omega(2) is not None)


class Quadratic(Oracle):
    """‖θ − c‖²/2 with noise on c."""

    num_examples = 1
    size: int

    def __init__(self, centre: F32, noise: float = 0.1) -> None:
        self.centre, self.noise = centre, noise
        self.size = centre.size

    def draw(self, rng: np.random.Generator) -> F32:
        return rng.standard_normal(self.size, np.float32) * np.float32(self.noise)

    def gradient(self, theta: F32, batch: F32) -> F32:
        return theta - self.centre + batch


def _oracles(size: int, workers: int, noise: float = 0.1) -> list[Quadratic]:
    rng = np.random.default_rng(0)
    return [
        Quadratic(rng.standard_normal(size).astype(np.float32), noise)
        for _ in range(workers)
    ]


def _lossy_round(
    server: LasgServer, workers: list[LasgWorker], rng: np.random.Generator
) -> None:
    """One round; a tenth of the requests and of the replies is lost."""
    for node, request in server.open_round(range(len(workers))):
        if rng.random() < 0.1:
            continue
        reply = workers[node].handle(request)
        if reply is not None and rng.random() >= 0.1:
            assert server.receive(node, reply).kept
    server.close_round()


def _check_equal(server: LasgServer, workers: list[LasgWorker]) -> int:
    """Compare h on both sides, to the bit; return how many could be compared."""
    compared = 0
    for worker in workers:
        record = server.roster.records.get(worker.key)
        slots = (worker.state.committed, worker.state.pending)
        for slot in slots:
            if record is None or slot is None or slot.id != record.id:
                continue
            held = getattr(record.memory, "h", None)
            if h_of(slot) is None or held is None:
                continue
            assert h_of(slot).tobytes() == held.tobytes()
            compared += 1
    return compared


@pytest.mark.slow
@pytest.mark.parametrize("codec", cases(SPECS))
@pytest.mark.parametrize("server_memory", ["per-worker", "sum-only"])
def test_innovation_memory_stays_equal(
    codec: Codec, server_memory: ServerMemoryName, request: pytest.FixtureRequest
) -> None:
    spec = request.node.callspec.id.removesuffix(f"-{server_memory}")
    spec = spec.removeprefix(f"{server_memory}-")
    server = server_for(
        np.zeros(SIZE, np.float32),
        "wk2:c=0.5",
        spec,
        server_memory=server_memory,
        step=0.1,
    )
    workers = [LasgWorker(o, m) for m, o in enumerate(_oracles(SIZE, WORKERS))]
    rng, compared = np.random.default_rng(0), 0
    for _ in range(ROUNDS):
        _lossy_round(server, workers, rng)
        compared += _check_equal(server, workers)
    if server_memory == "per-worker":
        assert compared > ROUNDS or codec.lossless
        return
    total = np.zeros(SIZE)
    for worker in workers:
        record = server.roster.records[worker.key]
        slots = (worker.state.committed, worker.state.pending)
        held = [h_of(s) for s in slots if s is not None and s.id == record.id]
        assert held, "the worker has what the server accepted last"
        assert held[0] is not None
        total += held[0]
    np.testing.assert_allclose(server.sum.total, total, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("codec", cases(UNBIASED))
def test_gradient_memory_stays_equal(
    codec: Codec, request: pytest.FixtureRequest
) -> None:
    """The server's h is what the accepted payload decodes to, and S is their sum."""
    spec = request.node.callspec.id
    memory: MemoryName = "gradient"
    server = server_for(
        np.zeros(SIZE, np.float32), "wk2:c=0.5", spec, memory=memory, step=0.05
    )
    workers = [LasgWorker(o, m) for m, o in enumerate(_oracles(SIZE, WORKERS))]
    rng = np.random.default_rng(0)
    accepted: dict[int, F32] = {}
    for _ in range(ROUNDS):
        for node, asked in server.open_round(range(WORKERS)):
            reply = workers[node].handle(asked) if rng.random() > 0.1 else None
            if reply is None or rng.random() < 0.1:
                continue
            assert server.receive(node, reply).kept
            if reply.kind != "skip":
                accepted[node] = wire.decode(reply.payload, codec, SIZE)
        server.close_round()
    for key, h in accepted.items():
        record = server.roster.records[key]
        assert record.memory.payload
        held = held_by(record, SIZE)
        assert held.tobytes() == h.tobytes()
    total = np.sum([h.astype(np.float64) for h in accepted.values()], axis=0)
    np.testing.assert_allclose(server.sum.total, total, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_random_faults_keep_the_protocol_with_every_codec(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The histories of `tests.protocol.test_stateful`, with these codecs."""
    for memory in MEMORIES:
        specs = UNBIASED if memory[0] == "gradient" else SPECS
        usable = [s for s in specs if range_coder.available or "range" not in s]
        monkeypatch.setitem(MEMORIES, memory, tuple(usable))
        for seed in range(1_000, 1_012):
            play(seed, rules=[rule], memories=[memory])


def _distance(codec: str, rounds: int = 300) -> float:
    """Return how far SGD with 785 coordinates is from the optimum in the end."""
    oracles = _oracles(785, 4)
    result = simulate(
        oracles, np.zeros(785), rounds=rounds, rule="sgd", codec=codec, step=0.1
    )
    optimum = np.mean([o.centre for o in oracles], axis=0)
    return float(np.linalg.norm(result.theta - optimum))


def test_one_l2_norm_in_innovation_memory_must_be_damped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """4-bit QSGD with one ℓ2 norm over 785 coordinates under SGD: ω = 3.

    E‖g − h‖² grows by ω a round without the factor 1/(1 + ω), and shrinks by
    ω/(1 + ω) with it.
    """
    spec = "qsgd:bits=4,bucket=0,norm=l2"
    assert codec_from(spec).omega(785) == pytest.approx(3.0, abs=0.01)
    start = float(np.linalg.norm(np.mean([o.centre for o in _oracles(785, 4)], axis=0)))
    assert _distance(spec) < start / 5
    monkeypatch.setattr(Codec, "innovation_gain", lambda self, size: 1.0)
    try:
        distance = _distance(spec)
    except LasgError:
        distance = np.inf  # overflow: diverged all the same
    assert distance > 1e6 * start


@pytest.mark.parametrize("memory", ["innovation", "error-feedback"])
@pytest.mark.parametrize("server_memory", ["per-worker", "sum-only"])
def test_first_uploads_take_the_codec_of_the_run(
    memory: MemoryName, server_memory: ServerMemoryName
) -> None:
    """A short run does not pay for a dense start."""
    if memory == "error-feedback" and server_memory == "sum-only":
        pytest.skip("error feedback has a server memory of its own")
    oracles = _oracles(3_000, 4)
    result = simulate(
        oracles, np.zeros(3_000), rounds=1, rule="sgd", codec="ecsq:error=0.3",
        memory=memory, server_memory=server_memory, step=0.1,
    )  # fmt: skip
    assert result.ledger.uploads == 4
    assert result.ledger.uplink_bytes < 4 * 4 * 3_000 / 20
