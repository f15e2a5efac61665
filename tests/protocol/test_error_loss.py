"""What error feedback loses, and what it never sends twice, when state is lost."""

import numpy as np
import pytest

from lasg_flwr import LasgServer, LasgWorker
from lasg_flwr.protocol.saving import Capture, capture, restore
from lasg_flwr.protocol.state import WorkerState
from lasg_flwr.vectors import F64
from tests.problems.servers import server_for
from tests.protocol.test_sums import Told

UPDATE = np.array([3.0, 1.0])
ROUNDS = 12


def _server() -> LasgServer:
    return server_for(
        np.zeros(2), "sgd", "topk:k=1", memory="error-feedback", step=1e-30
    )


class Run:
    """One worker that always has the same update, and what arrives of it."""

    def __init__(self) -> None:
        self.server = _server()
        self.worker = LasgWorker(Told((3.0, 1.0)), 0)
        self.arrived: F64 = np.zeros(2)
        self.made = 0
        self.states: list[WorkerState] = [self.worker.state]
        self.arrivals: list[F64] = []

    def round(self, lost: bool = False) -> None:
        ((node, request),) = self.server.open_round([0])
        reply = self.worker.handle(request)
        assert reply is not None
        self.made += 1
        if not lost:
            assert self.server.receive(node, reply).kept
        self.server.close_round()
        self.arrivals.append(self.server.sum.total)
        self.arrived = self.arrived + self.arrivals[-1]
        self.states.append(self.worker.state)

    def left(self) -> F64:
        """Return e, with the pending upload taken for accepted."""
        slot = self.worker.state.pending
        assert slot is not None
        return np.asarray(slot.memory.accepted)


def test_nothing_is_lost_where_only_messages_are() -> None:
    run = Run()
    for k in range(ROUNDS):
        run.round(lost=k % 3 == 1)
    assert np.array_equal(run.arrived + run.left(), run.made * UPDATE)


@pytest.mark.parametrize("at", range(3, 9))
@pytest.mark.parametrize("behind", [1, 2])
def test_a_state_that_is_behind_errs_by_what_it_has_forgotten(
    at: int, behind: int
) -> None:
    """As where Flower drops the push of a state after the reply.

    The worker goes on from its older e: what the forgotten uploads carried of it is
    sent again, what they left of their own updates is lost, and nothing else.
    """
    run = Run()
    forgotten = np.zeros(2)
    for k in range(ROUNDS):
        if k == at:
            run.worker.state = run.states[-1 - behind]
            forgotten = sum(run.arrivals[-behind:], np.zeros(2))
        run.round()
    excess = run.arrived + run.left() - run.made * UPDATE
    assert np.array_equal(excess, forgotten - behind * UPDATE)


def test_a_worker_without_state_loses_what_was_left() -> None:
    run = Run()
    for _ in range(5):
        run.round()
    left = run.left()
    run.worker.state = WorkerState()
    for _ in range(5):
        run.round()
    assert np.array_equal(run.arrived + run.left() + left, run.made * UPDATE)


def test_a_server_restored_to_its_last_round_loses_nothing() -> None:
    run = Run()
    for _ in range(5):
        run.round()
    arrays, meta = capture(run.server)
    run.server = _server()
    restore(run.server, Capture(arrays, meta))
    for _ in range(5):
        run.round()
    assert np.array_equal(run.arrived + run.left(), run.made * UPDATE)


def test_a_server_restored_to_an_earlier_round_loses_what_was_left() -> None:
    run = Run()
    for _ in range(3):
        run.round()
    arrays, meta = capture(run.server)
    for _ in range(3):
        run.round()
    left = run.left()
    run.server = _server()
    restore(run.server, Capture(arrays, meta))
    for _ in range(5):
        run.round()
    assert np.array_equal(run.arrived + run.left() + left, run.made * UPDATE)
