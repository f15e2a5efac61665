"""Who is where: keys stay with nodes that are there, and nothing old stays in S."""

from typing import Any

import numpy as np
import pytest

from lasg_flwr import LasgServer, LasgWorker
from lasg_flwr.protocol.messages import Request
from lasg_flwr.protocol.rounds import Verdict
from tests.problems.servers import server_for
from tests.protocol.test_sums import Told

D = 5
MEMORIES = ["per-worker", "sum-only"]


def _server(server_memory: Any = "per-worker", **options: Any) -> LasgServer:
    options = {"rule": f"wk2:max_delay={D}", "step": 1e-3, **options}
    return server_for(np.zeros(2), server_memory=server_memory, **options)


def _answer(server: LasgServer, node: int, worker: LasgWorker) -> Verdict | None:
    request = server._open._asked.get(node) if server._open else None
    if request is None:
        return None
    reply = worker.handle(request[0])
    return None if reply is None else server.receive(node, reply)


def _round(
    server: LasgServer,
    workers: dict[int, LasgWorker],
    connected: list[int] | None = None,
) -> dict[int, Verdict]:
    """Play a round: node -> worker; a node that is connected alone says nothing."""
    server.open_round(connected or list(workers), connected)
    found = {node: _answer(server, node, workers[node]) for node in workers}
    server.close_round()
    return {node: verdict for node, verdict in found.items() if verdict is not None}


def _workers(*keys: int) -> dict[int, LasgWorker]:
    return {100 + key: LasgWorker(Told((1.0, float(key))), key) for key in keys}


def _members(server: LasgServer) -> set[int]:
    return {
        record.key for record in server.roster.sorted() if server.memory.in_sum(record)
    }


@pytest.mark.parametrize("server_memory", MEMORIES)
def test_who_was_not_refreshed_for_2d_rounds_is_out_though_connected(
    server_memory: str,
) -> None:
    server, workers = _server(server_memory), _workers(0, 1, 2)
    for _ in range(3):
        _round(server, workers)
    everybody = list(workers)
    last = server.roster.records[1].round
    del workers[101]
    while server.round < last + 2 * D:
        assert 1 in _members(server)
        _round(server, workers, everybody)
    _round(server, workers, everybody)
    for _ in range(D):
        _round(server, workers, everybody)
        assert _members(server) == {0, 2}
        assert server.sum.weight == 2.0
    workers[101] = LasgWorker(Told((1.0, 1.0)), 1)
    for _ in range(2 * D):
        _round(server, workers)
    assert _members(server) == {0, 1, 2}


def test_a_client_that_fails_from_round_3_on_does_not_hold_theta_back() -> None:
    class Pull(Told):
        def gradient(self, theta: Any, batch: None) -> Any:
            return theta - np.array(self.value, np.float32)

    server = _server(step=0.1)
    workers = {
        100 + key: LasgWorker(Pull((value, 0.0)), key)
        for key, value in enumerate((30.0, 0.0, 0.0))
    }
    everybody = list(workers)
    for k in range(300):
        if k == 3:
            del workers[100]
        _round(server, workers, everybody)
    assert abs(float(server.theta[0])) < 1e-3  # the optimum of those who are there


@pytest.mark.parametrize("server_memory", MEMORIES)
def test_a_new_node_cannot_take_the_key_of_a_live_worker(server_memory: str) -> None:
    server, workers = _server(server_memory), _workers(0, 1)
    _round(server, workers)
    thief = LasgWorker(Told((9.0, 9.0)), 1)
    nodes = {666: thief, **workers}
    for _ in range(3 * D):
        found = _round(server, nodes)
        assert found[666].reason == "duplicate key"
        assert "node 101, which is there" in found[666].detail
        assert found[101].kept
        assert server.roster.records[1].node == 101
    assert server.ledger.refused.total() == 3 * D


def test_a_key_moves_when_its_node_is_not_connected() -> None:
    server, workers = _server(), _workers(0, 1)
    _round(server, workers)
    workers[200] = LasgWorker(Told((1.0, 1.0)), 1)
    del workers[101]
    assert _round(server, workers)[200].kept
    assert server.roster.records[1].node == 200
    assert server.sum.weight == 2.0


def test_a_key_of_a_node_that_is_left_out_of_the_sample_is_its_own() -> None:
    server, workers = _server(), _workers(0, 1)
    _round(server, workers)
    everybody = [*workers, 200]
    workers[200] = LasgWorker(Told((1.0, 1.0)), 1)
    del workers[101]  # connected, but not asked in this round
    server.open_round([100, 200], everybody)
    verdict = _answer(server, 200, workers[200])
    assert verdict is not None
    assert verdict.reason == "duplicate key"


def test_a_key_moves_when_its_node_was_silent_for_2d_rounds() -> None:
    server, workers = _server(), _workers(0, 1)
    _round(server, workers)
    everybody = [*workers, 200]
    del workers[101]
    workers[200] = LasgWorker(Told((1.0, 1.0)), 1)
    kept = []
    for _ in range(2 * D + 2):
        kept.append(_round(server, workers, everybody)[200].kept)
    assert kept == [False] * (2 * D - 1) + [True] * 3
    assert server.roster.records[1].node == 200


@pytest.mark.parametrize("server_memory", MEMORIES)
def test_a_node_may_correct_its_key(server_memory: str) -> None:
    server, workers = _server(server_memory), _workers(0, 1)
    for _ in range(2):
        _round(server, workers)
    state = workers[101].state
    workers[101] = LasgWorker(Told((1.0, 7.0)), 7, state)  # the same node and state
    assert _round(server, workers)[101].reason == "foreign key"
    assert _round(server, workers)[101].kept
    for _ in range(2 * D):
        _round(server, workers)
    assert _members(server) == {0, 7}
    assert server.sum.weight == 2.0
    np.testing.assert_allclose(server.sum.total, [2.0, 7.0])
    assert server.roster.records[1].node is None


def test_a_node_cannot_correct_its_key_to_that_of_a_live_worker() -> None:
    server, workers = _server(), _workers(0, 1)
    _round(server, workers)
    workers[101] = LasgWorker(Told((9.0, 9.0)), 0)
    for _ in range(D):
        assert _round(server, workers)[101].reason == "foreign key"
    assert server.roster.records[0].node == 100
    assert server.roster.records[1].node == 101


def test_a_valid_answer_takes_back_what_the_node_claimed() -> None:
    server, workers = _server(), _workers(0, 1)
    _round(server, workers)
    requests: dict[int, Request] = dict(server.open_round(list(workers)))
    reply = workers[101].handle(requests[101])
    assert reply is not None
    assert not server.receive(101, reply._replace(key=5)).kept
    assert server.receive(101, reply).kept
    server.close_round()
    assert server.roster.records[1].node == 101


@pytest.mark.parametrize("rounds", [60])
def test_a_worker_that_never_keeps_its_state_causes_few_new_starts(rounds: int) -> None:
    server = _server("sum-only", rule="wk2:max_delay=100")
    workers = _workers(0, 1, 2)
    for _ in range(rounds):
        workers[102] = LasgWorker(Told((1.0, 2.0)), 2)
        _round(server, workers)
    assert 1 <= server.ledger.new_starts <= 6  # in rounds 1, 2, 4, 8, 16, 32
    assert _members(server) == {0, 1, 2}


def test_a_worker_that_keeps_its_state_again_is_asked_again() -> None:
    server = _server("sum-only", rule="sgd")
    workers = _workers(0, 1, 2)
    for _ in range(10):
        workers[102] = LasgWorker(Told((1.0, 2.0)), 2)
        _round(server, workers)
    for _ in range(40):
        _round(server, workers)
    assert server.roster.records[2].memory.relapses == 0
    asked = dict(server.open_round(list(workers)))
    assert 102 in asked
