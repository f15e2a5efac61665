"""Small cases of what the stateful test and its review found."""

from collections.abc import Iterator

import numpy as np
import pytest

from lasg_flwr import Oracle
from lasg_flwr.errors import LasgError
from lasg_flwr.protocol import LasgWorker
from lasg_flwr.protocol.messages import Reply
from lasg_flwr.protocol.server import LasgServer
from lasg_flwr.rules import PS
from tests.problems.servers import server_for


class Ones(Oracle):
    """A gradient of ones, always."""

    num_examples = 1

    def draw(self, rng: np.random.Generator) -> None:
        return None

    def gradient(self, theta: np.ndarray, batch: None) -> np.ndarray:
        return np.ones_like(theta)


def _sum_only(rule: str = "sgd:max_delay=5", lost_share: float = 1.0) -> LasgServer:
    theta = np.zeros(2, np.float32)
    return server_for(theta, rule, server_memory="sum-only", lost_share=lost_share)


def _round(server: LasgServer, workers: dict[int, LasgWorker]) -> None:
    for node, request in server.open_round(workers):
        reply = workers[node].handle(request)
        assert reply is not None
        assert server.receive(node, reply).kept
    server.close_round()


def _rounds_until_new_start(server: LasgServer, workers: dict[int, LasgWorker]) -> None:
    before = server.ledger.new_starts
    for _ in range(20):
        if server.ledger.new_starts > before:
            return
        _round(server, workers)
    raise AssertionError("no new start in 20 rounds")


def test_two_restarts_before_a_new_start_count_once() -> None:
    server = _sum_only()
    _round(server, {10: LasgWorker(Ones(), 0)})
    _round(server, {11: LasgWorker(Ones(), 0)})  # set aside
    last = LasgWorker(Ones(), 0)
    _round(server, {12: last})  # lost again, again on a new node
    _rounds_until_new_start(server, {12: last})
    assert server.sum.weight == 1.0
    assert server.sum.total.tolist() == [1.0, 1.0]


def test_a_worker_that_leaves_after_its_upload_was_set_aside_is_dropped() -> None:
    server = _sum_only()
    stays = LasgWorker(Ones(), 1)
    _round(server, {10: LasgWorker(Ones(), 0), 20: stays})
    _round(server, {11: LasgWorker(Ones(), 0), 20: stays})
    server.leave(0)
    for _ in range(15):
        _round(server, {20: stays})
    assert not server.roster.records[0].memory.in_sum
    assert server.sum.weight == 1.0


def test_leaving_twice_releases_a_stored_iterate_once() -> None:
    server = _sum_only("pse:max_delay=5")
    stays = LasgWorker(Ones(), 1)
    _round(server, {10: LasgWorker(Ones(), 0), 20: stays})
    _round(server, {11: LasgWorker(Ones(), 0), 20: stays})
    server.leave(0)
    server.leave(0)
    assert {r: e.users for r, e in server.iterates.entries.items()} == {1: 1}


def test_a_refused_open_round_leaves_the_server_between_rounds() -> None:
    server = server_for(np.zeros(2, np.float32), PS(smoothness={0: 1.0}, c=0.0))
    _round(server, {10: LasgWorker(Ones(), 0)})

    def nodes() -> Iterator[int]:
        yield 10
        raise RuntimeError("link down")

    before = server.ledger.as_dict()
    with pytest.raises(RuntimeError, match="link down"):
        server.open_round(nodes())
    assert server.ledger.as_dict() == before
    with pytest.raises(LasgError, match="no round is open"):
        server.close_round()
    assert len(server.open_round([10])) == 1


@pytest.mark.parametrize("memory", ["gradient", "innovation"])
def test_full_codec_cannot_replace_the_codec(memory: str) -> None:
    with pytest.raises(ValueError, match="full_codec"):
        server_for(
            np.zeros(2, np.float32),
            memory=memory,
            full_codec="topk:k=1",
        )


def test_a_reply_after_the_round_changes_nothing() -> None:
    server = server_for(np.zeros(2, np.float32))
    verdict = server.receive(10, Reply(server.session, 0, 0, None, "full", b""))
    assert not verdict.kept
    assert server.ledger.refused == {"other round": 1}


def test_a_stranger_without_a_smoothness_constant_ends_no_run() -> None:
    server = server_for(np.zeros(2, np.float32), PS(smoothness={0: 1.0}))
    honest = LasgWorker(Ones(), 0)
    for _ in range(3):
        for node, request in server.open_round([10, 66]):
            worker = honest if node == 10 else LasgWorker(Ones(), 7)
            reply = worker.handle(request)
            assert reply is not None
            verdict = server.receive(node, reply)
            assert verdict.kept == (node == 10)
            if node == 66:
                assert verdict.reason == "unknown key"
                assert "worker 7" in verdict.detail
        server.close_round()
    assert list(server.roster.records) == [0]
    with pytest.raises(ValueError, match="no smoothness constant for worker 7"):
        server.introduce(66, 7)
