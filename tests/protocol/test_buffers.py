"""Buffers ride along with uploads as values, and the server keeps their mean."""

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lasg_flwr import LasgServer, LasgWorker, NonFiniteGradientError, simulate
from lasg_flwr.codecs import Dense, wire
from lasg_flwr.errors import WireError
from lasg_flwr.protocol.buffers import encode
from lasg_flwr.protocol.messages import Reply, Request
from lasg_flwr.protocol.rounds import RoundReport
from lasg_flwr.protocol.saving import Capture, capture, restore
from lasg_flwr.protocol.upload_ids import upload_id
from lasg_flwr.vectors import F32
from tests.problems.least_squares import Running, least_squares
from tests.problems.rules import every_rule
from tests.problems.servers import server_for

WORKERS = 4
ORACLES = least_squares(WORKERS)
SIZE, WIDTH = ORACLES[0].size, Running.width
FIRST: F32 = np.array([1, -2, 0.5], np.float32)
RULES = every_rule(1.5)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"codec": "topk:k=2"},
    {"codec": "qsgd:bits=4", "memory": "gradient"},
    {"codec": "topk:k=2", "server_memory": "sum-only"},
    {"weights": "examples"},
]


def oracles() -> list[Running]:
    return [Running(oracle) for oracle in ORACLES]


def upload(
    server: LasgServer, requests: dict[int, Request], key: int, values: NDArray[Any]
) -> Reply:
    """Return a full upload of a gradient of ones with these buffers."""
    codec = rule_codec(requests[key])
    payload = wire.encode(codec, np.ones(server.theta.size, np.float32))
    sent = encode(np.asarray(values, np.float32))
    reply = Reply(server.session, server.round, key, None, "full", payload)
    return reply._replace(buffers=sent, turn=server.broadcast.turn)


def rule_codec(request: Request) -> Dense:
    assert request.full_codec == "dense"
    return Dense()


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        *itertools.product(RULES, OPTIONS),
        ("sgd", {"codec": "topk:k=2", "memory": "error"}),
    ],
    ids=str,
)
def test_the_servers_buffers_are_the_mean_of_the_rounds_uploads(
    rule: str, options: dict[str, Any]
) -> None:
    workers = oracles()
    for i, worker in enumerate(workers):
        worker.num_examples = 20 - i
    before = FIRST
    silent = partial = 0

    def check(server: LasgServer, report: RoundReport) -> None:
        nonlocal before, silent, partial
        total, weight = np.zeros(WIDTH), 0.0
        for record in server.roster.sorted():
            if record.id is None or record.round != report.round:
                continue
            _, made = workers[record.key].calls[-1]  # at θ^k
            total += record.weight * made.astype(np.float64)
            weight += record.weight
        for worker in workers:
            for start, _ in worker.calls:
                assert start.tobytes() == before.tobytes()
            worker.calls.clear()
        if weight:
            before = (total / weight).astype(np.float32)
        silent += report.uploaded == 0
        partial += 0 < report.uploaded < WORKERS
        assert server.buffers.tobytes() == before.tobytes()
        assert not server.buffers.flags.writeable

    result = simulate(
        workers,
        np.zeros(SIZE),
        rounds=60,
        rule=RULES[rule],
        step=0.05,
        buffers=FIRST,
        callback=check,
        **options,
    )
    assert not result.ledger.refused
    assert result.server.buffers.tobytes() != FIRST.tobytes()
    if rule in ("wk2", "pse") and not options:
        assert silent > 0
        assert partial > 0


@pytest.mark.parametrize("rule", RULES)
def test_buffers_decide_nothing(rule: str) -> None:
    """θ, uploads and ids are those of a run without them; the bytes say what they cost.

    The gradient of `Running` does not depend on its buffers.
    """
    fixed: dict[str, Any] = {"rounds": 40, "rule": RULES[rule], "step": 0.05, "seed": 3}
    plain = simulate(ORACLES, np.zeros(SIZE), **fixed)
    with_buffers = simulate(oracles(), np.zeros(SIZE), buffers=FIRST, **fixed)
    assert with_buffers.theta.tobytes() == plain.theta.tobytes()
    ours, theirs = with_buffers.ledger, plain.ledger
    assert (ours.uploads, ours.skips) == (theirs.uploads, theirs.skips)
    each = len(encode(FIRST))
    assert each == wire.HEADER_BYTES + 4 * WIDTH
    assert ours.uplink_bytes == theirs.uplink_bytes + each * ours.uploads
    assert ours.sgd_uplink_bytes == theirs.sgd_uplink_bytes + each * 40 * WORKERS
    assert ours.downlink_bytes == theirs.downlink_bytes + 4 * WIDTH * ours.downloads


def test_an_id_does_not_depend_on_buffers() -> None:
    reply = Reply(bytes(16), 3, 7, None, "full", b"payload")
    other = reply._replace(buffers=encode(FIRST))
    assert upload_id(None, reply) == upload_id(None, other)


def test_replies_carry_payload_and_buffers_in_one_array() -> None:
    sent = encode(FIRST)
    reply = Reply(bytes(16), 3, 7, None, "full", b"payload", buffers=sent)
    again = Reply.from_header(reply.header(), reply.body())
    assert (again.payload, again.buffers) == (b"payload", sent)
    assert wire.decode(again.buffers, Dense(), WIDTH).tobytes() == FIRST.tobytes()
    assert sent[-4 * WIDTH :] == FIRST.astype("<f4").tobytes()
    with pytest.raises(WireError, match="cannot hold"):
        Reply.from_header(reply.header(), sent[:-1])


def test_the_order_of_arrival_does_not_matter() -> None:
    values = np.random.default_rng(0).normal(size=(WORKERS, WIDTH)) * [1, 1e6, 1e-6]
    results = set()
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        server = server_for(np.zeros(SIZE), "sgd", buffers=FIRST)
        requests = dict(server.open_round(range(WORKERS)))
        for key in order:
            assert server.receive(key, upload(server, requests, key, values[key])).kept
        server.close_round()
        results.add(server.buffers.tobytes())
    assert len(results) == 1
    mean = values.astype(np.float32).astype(np.float64).sum(axis=0) / WORKERS
    assert results == {mean.astype(np.float32).tobytes()}


def test_a_stale_buffer_is_never_added_again() -> None:
    server = server_for(np.zeros(SIZE), "sgd", buffers=FIRST)
    requests = dict(server.open_round(range(2)))
    for key in range(2):
        server.receive(key, upload(server, requests, key, np.full(WIDTH, 7)))
    server.close_round()
    requests = dict(server.open_round(range(2)))
    server.receive(1, upload(server, requests, 1, np.full(WIDTH, 2)))
    server.close_round()
    assert server.buffers.tolist() == [2, 2, 2]
    server.open_round([])
    server.close_round()
    assert server.buffers.tolist() == [2, 2, 2]


def test_an_upload_without_buffers_counts_for_theta_alone() -> None:
    server = server_for(np.zeros(SIZE), "sgd", buffers=FIRST)
    requests = dict(server.open_round(range(2)))
    server.receive(0, upload(server, requests, 0, np.full(WIDTH, 7)))
    bare = upload(server, requests, 1, FIRST)._replace(buffers=b"")
    assert server.receive(1, bare).kept
    server.close_round()
    assert server.buffers.tolist() == [7, 7, 7]
    assert server.sum.weight == 2


@pytest.mark.parametrize(
    "sent",
    [
        b"x",
        encode(FIRST)[:-1],
        encode(FIRST) + b"\0",
        encode(np.ones(WIDTH + 1, np.float32)),
        encode(np.array([1, np.nan, 2], np.float32)),
        encode(np.array([1, 2, -np.inf], np.float32)),
    ],
)
@pytest.mark.parametrize("first", [FIRST, None])
def test_bad_buffers_are_refused_and_change_nothing(
    sent: bytes, first: F32 | None
) -> None:
    server = server_for(np.zeros(SIZE), "sgd", buffers=first)
    requests = dict(server.open_round([0]))
    reply = upload(server, requests, 0, np.zeros(0))
    verdict = server.receive(0, reply._replace(buffers=sent))
    assert (verdict.kept, verdict.reason) == (False, "bad buffers")
    assert server.receive(0, reply).kept  # the honest reply still counts
    server.close_round()
    assert server.buffers.tolist() == ([] if first is None else FIRST.tolist())


def test_a_skip_cannot_carry_buffers() -> None:
    server = server_for(np.zeros(SIZE), "wk2", buffers=FIRST)
    requests = dict(server.open_round([0]))
    server.receive(0, upload(server, requests, 0, FIRST))
    server.close_round()
    ((_, request),) = server.open_round([0])
    skip = Reply(server.session, 1, 0, request.accepted_id, "skip", turn=request.turn)
    loaded = skip._replace(buffers=encode(FIRST))
    assert server.receive(0, loaded).reason == "illegal skip"
    assert server.receive(0, skip).kept


def test_a_checkpoint_holds_the_buffers() -> None:
    fixed: dict[str, Any] = {"rule": "wk2", "step": 0.05}
    result = simulate(oracles(), np.zeros(SIZE), rounds=5, buffers=FIRST, **fixed)
    arrays, meta = capture(result.server)
    server = server_for(np.zeros(SIZE), buffers=np.zeros(WIDTH), **fixed)
    restore(server, Capture(arrays, meta))
    assert server.buffers.tobytes() == result.server.buffers.tobytes()
    assert not server.buffers.flags.writeable


def test_a_batched_gradient_and_buffers_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="leave it out"):
        simulate(
            oracles(),
            np.zeros(SIZE),
            rounds=1,
            buffers=FIRST,
            batched_gradient=lambda workers, thetas, batches: list(thetas),
        )


def test_an_oracle_with_other_buffers_than_the_server_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"shape \(3,\), the server's have \(0,\): .*oracle.buffers"
    ):
        simulate(oracles(), np.zeros(SIZE), rounds=1)


def test_buffers_that_are_not_finite_stop_the_worker() -> None:
    oracle = oracles()[0]
    oracle.load_buffers = lambda values: oracle.values.fill(np.nan)  # type: ignore[method-assign]
    worker = LasgWorker(oracle, 0)
    server = server_for(np.zeros(SIZE), buffers=FIRST)
    ((_, request),) = server.open_round([0])
    with pytest.raises(
        NonFiniteGradientError,
        match="worker 0 in round 0: NaN or infinity in its buffers",
    ):
        worker.handle(request)
    assert worker.state.answered is None


@pytest.mark.parametrize("bad", [np.array([np.nan], np.float32), np.zeros((2, 2))])
def test_bad_first_buffers(bad: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="finite vector"):
        server_for(np.zeros(SIZE), buffers=bad)
