"""Error memory (appendix): what is left out of an upload is not lost, only late."""

from typing import Any

import numpy as np
import pytest

from lasg_flwr import LasgServer, LasgWorker, simulate
from lasg_flwr.codecs import codec_from, wire
from lasg_flwr.protocol.saving import dump_worker, load_worker
from lasg_flwr.random import keyed_generator
from lasg_flwr.vectors import F64
from tests.problems.least_squares import LeastSquares, least_squares
from tests.problems.servers import h_of, server_for

SIZE = 6
CODEC = "topk:k=2"
ORACLE = least_squares(1)[0]


class Noted(LeastSquares):
    """An oracle that adds up every gradient that it returned."""

    def draw(self, rng: np.random.Generator) -> Any:
        self.__dict__.setdefault("total", np.zeros(SIZE))
        return super().draw(rng)

    def gradient(self, theta: Any, batch: Any) -> Any:
        gradient = super().gradient(theta, batch)
        self.__dict__["total"] += gradient
        return gradient


def server(**options: Any) -> LasgServer:
    return server_for(np.zeros(SIZE), "sgd", CODEC, memory="error", **options)


@pytest.mark.parametrize("seed", range(20))
def test_sent_plus_kept_is_all_there_was(seed: int) -> None:
    """Σ accepted decoded uploads + e_m = Σ gradients, whatever gets lost."""
    dice = np.random.default_rng(seed)
    workers = [LasgWorker(Noted(o.x, o.y), m) for m, o in enumerate(least_squares(3))]
    host = server(step=0.05)
    accepted = np.zeros((3, SIZE))
    lost = 0
    for _ in range(60):
        for node, request in host.open_round(range(3)):
            if dice.random() < 0.2:
                continue
            worker = workers[node]
            reply = worker.handle(request)
            assert reply is not None
            if dice.random() < 0.3:
                data = dump_worker(worker.state, request.settings)
                worker.state = load_worker(data, request.settings)
            if dice.random() < 0.3:
                lost += 1
                continue
            assert host.receive(node, reply).kept
            accepted[node] += wire.decode(reply.payload, codec_from(CODEC), SIZE)
            assert not host.receive(node, reply).kept
        host.close_round()
    assert lost > 5
    for node, worker in enumerate(workers):
        record = host.roster.records[node]
        pending = worker.state.pending
        assert pending is not None
        kept: Any = h_of(pending) if pending.id == record.id else pending.memory.lost
        total: F64 = worker.oracle.__dict__["total"]
        np.testing.assert_allclose(accepted[node] + kept, total, rtol=0, atol=1e-11)


def test_a_worker_that_left_does_not_send_its_last_upload_again() -> None:
    host = server(step=0.05)
    worker = LasgWorker(Noted(ORACLE.x, ORACLE.y), 0)
    accepted = np.zeros(SIZE)
    for k in range(6):
        ((node, request),) = host.open_round([0])
        reply = worker.handle(request)
        assert reply is not None
        assert host.receive(node, reply).kept
        accepted += wire.decode(reply.payload, codec_from(CODEC), SIZE)
        host.close_round()
        if k % 2:
            host.leave(0)
    assert worker.state.pending is not None
    total: F64 = worker.oracle.__dict__["total"]
    kept: Any = h_of(worker.state.pending)
    np.testing.assert_allclose(accepted + kept, total, rtol=0, atol=1e-11)


def test_the_server_follows_a_loop_written_by_hand() -> None:
    """θ ← θ − η mean_m decode(e_m + g_m), in key order."""
    oracles = least_squares(4)
    codec = codec_from(CODEC)
    theta, errors = np.zeros(SIZE, np.float32), np.zeros((4, SIZE))
    for k in range(50):
        mean = np.zeros(SIZE)
        for m, oracle in enumerate(oracles):
            batch = oracle.draw(keyed_generator(7, m, k))
            total = errors[m] + oracle.gradient(theta, batch)
            decoded = codec.decode(codec.encode(total.astype(np.float32)), SIZE)
            errors[m] = total - decoded
            mean += decoded
        theta = (theta - 0.05 * (mean / 4)).astype(np.float32)
    options: dict[str, Any] = {"rule": "sgd", "codec": CODEC, "memory": "error"}
    result = simulate(oracles, np.zeros(SIZE), rounds=50, step=0.05, seed=7, **options)
    assert result.theta.tobytes() == theta.tobytes()
    for m, worker in enumerate(result.workers):
        assert worker.state.pending is not None
        np.testing.assert_array_equal(h_of(worker.state.pending), errors[m])


def test_the_mean_is_over_those_whose_uploads_arrived() -> None:
    """FedAvg's mean: w_m are the present examples, and who is missing counts not."""
    oracles = least_squares(3)
    workers = [LasgWorker(o, m) for m, o in enumerate(oracles)]
    host = server(step=1.0, weights="examples")
    for k, present in enumerate(((0, 1, 2), (0, 2), (1,), ())):
        before, total, weight = host.theta, np.zeros(SIZE), 0
        for node, request in host.open_round(range(3)):
            reply = workers[node].handle(request)
            assert reply is not None
            if node in present:
                reply = reply._replace(examples=1 + node * k)
                host.receive(node, reply)
                decoded = wire.decode(reply.payload, codec_from(CODEC), SIZE)
                total += reply.examples * decoded.astype(np.float64)
                weight += reply.examples
        assert host.close_round().moved == bool(present)
        after = before - total / weight if present else before
        np.testing.assert_allclose(host.theta, after, rtol=1e-6)


def test_a_fifth_of_the_workers_a_round_moves_as_far_as_all() -> None:
    """Whoever was never asked takes nothing from the step (it was a fifth of it)."""
    oracles = [least_squares(1)[0]] * 10
    ends = []
    for sample in (None, lambda k: [2 * k % 10, (2 * k + 1) % 10]):
        result = simulate(
            oracles,
            np.zeros(SIZE),
            rounds=60,
            rule="sgd",
            codec="dense",
            memory="error",
            step=0.05,
            sample=sample,
        )
        ends.append(np.linalg.norm(result.theta))
    assert ends[1] == pytest.approx(ends[0], rel=0.15)


def test_error_memory_corrects_what_plain_top_k_cannot() -> None:
    """Two workers whose largest coordinates cancel: without e nothing else moves."""
    x = np.array([[0, 1], [0, 1]], np.float32)
    pull = [LeastSquares(x, np.ones(2, np.float32), 2) for _ in range(2)]

    class Cancelling(LeastSquares):
        sign = 1.0

        def gradient(self, theta: Any, batch: Any) -> Any:
            return super().gradient(theta, batch) + np.array(
                [self.sign * 5, 0], np.float32
            )

    class Other(Cancelling):
        sign = -1.0

    oracles = [Cancelling(pull[0].x, pull[0].y, 2), Other(pull[1].x, pull[1].y, 2)]
    options: dict[str, Any] = {"rule": "sgd", "codec": "topk:k=1", "step": 0.05}
    with_error = simulate(oracles, np.zeros(2), rounds=400, memory="error", **options)
    assert with_error.theta[1] == pytest.approx(1.0, abs=0.3)
    codec = codec_from("topk:k=1")
    first = oracles[0].gradient(np.zeros(2, np.float32), [0, 1])
    assert codec.decode(codec.encode(first), 2)[1] == 0.0


def test_error_memory_is_for_rules_that_never_skip() -> None:
    with pytest.raises(ValueError, match="reuses nothing"):
        server_for(np.zeros(3), "wk2", CODEC, memory="error")
    with pytest.raises(ValueError, match="needs server_memory='per-worker'"):
        server(server_memory="sum-only")


def test_another_runs_state_is_not_taken_for_an_error() -> None:
    """A second server, of this or another rule and size, finds fresh workers."""
    oracles = least_squares(2)
    fresh = simulate(
        oracles, np.zeros(SIZE), rounds=5, rule="sgd", codec=CODEC, memory="error"
    )
    for first in ("sgd", "wk2"):
        memory: Any = "error" if first == "sgd" else "innovation"
        workers = simulate(
            oracles, np.ones(SIZE), rounds=9, rule=first, codec=CODEC, memory=memory
        ).workers
        host = server()
        for _ in range(5):
            for node, request in host.open_round(range(2)):
                reply = workers[node].handle(request)
                assert reply is not None
                assert host.receive(node, reply).kept
            host.close_round()
        assert host.theta.tobytes() == fresh.theta.tobytes()
