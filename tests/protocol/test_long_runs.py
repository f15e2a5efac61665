"""Long runs: memory does not grow, and S does not drift."""

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest

from lasg_flwr import LasgWorker, Oracle
from lasg_flwr.oracles.wrapper import OracleWrapper
from lasg_flwr.vectors import F32
from tests.problems.chaos import Book, sum_error
from tests.problems.least_squares import least_squares
from tests.problems.servers import server_for

SETUPS: dict[str, dict[str, Any]] = {
    "per-worker": {"rule": "wk2:max_delay=50", "codec": "topk:k=3"},
    "gradient": {"rule": "lag:max_delay=50", "codec": "qsgd", "memory": "gradient"},
    "sum-only": {
        "rule": "wk2:max_delay=50",
        "codec": "qsgd",
        "server_memory": "sum-only",
    },
    "pse": {"rule": "pse:max_delay=50"},
    "vr": {"rule": "vr:max_delay=50", "norm_bound": 100},
    "error feedback": {
        "rule": "sgd",
        "codec": "topk:k=3",
        "memory": "error-feedback",
    },
}


class Counted:
    """What error feedback must keep: all gradients are in sums S or in an e_m."""

    def __init__(self, size: int) -> None:
        self.computed, self.arrived = np.zeros(size), np.zeros(size)
        self.scale = 0.0

    def error(self, workers: list[LasgWorker]) -> float:
        """Return ‖Σ g − Σ S − Σ e_m‖ / Σ ‖g‖."""
        left = self.computed - self.arrived
        for worker in workers:
            slot = worker.state.pending
            assert slot is not None
            left -= slot.memory.accepted
        return float(np.linalg.norm(left)) / self.scale


class Counting(OracleWrapper):
    """An oracle whose gradients are added up."""

    def __init__(self, oracle: Oracle, counted: Counted | None) -> None:
        self.oracle = oracle
        self._counted = counted

    def gradient(self, theta: F32, batch: Any) -> F32:
        found = super().gradient(theta, batch)
        if self._counted is not None:
            self._counted.computed += found
            self._counted.scale += float(np.linalg.norm(found))
        return found


def _run(name: str, rounds: int) -> tuple[float, int]:
    """Return the worst error of S in the last tenth, and the growth of memory."""
    options = SETUPS[name]
    fed_back = name == "error feedback"
    counted = Counted(10) if fed_back else None
    oracles = [Counting(o, counted) for o in least_squares(workers=5, size=10)]
    server = server_for(np.zeros(10), step=0.02, **options)
    workers = [LasgWorker(oracle, key) for key, oracle in enumerate(oracles)]
    book, worst, sizes = Book(), 0.0, []
    tracemalloc.start()
    for k in range(rounds):
        for node, request in server.open_round(range(5)):
            reply = workers[node].handle(request)
            assert reply is not None
            book.note(workers[node])
            assert server.receive(node, reply).kept
        report = server.close_round()
        book.update(server, report.new_start)
        live = {record.id for record in server.roster.sorted()}
        book.sent = {id_: h for id_, h in book.sent.items() if id_ in live}
        if counted is not None:
            counted.arrived += server.sum.total
            worst = max(worst, counted.error(workers))
        elif k >= 0.9 * rounds:
            worst = max(worst, sum_error(server, book.held(server)))
        if k in (rounds // 2, rounds - 1):
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    return worst, sizes[1] - sizes[0]


def _check(name: str, rounds: int) -> None:
    worst, grown = _run(name, rounds)
    print(f"{name}: {rounds} rounds, off by {worst:.1e}, memory grew {grown} bytes")
    assert worst <= 1e-9
    assert grown < 30_000


@pytest.mark.parametrize("name", ["per-worker", "sum-only", "error feedback"])
def test_memory_and_s_in_a_run(name: str) -> None:
    _check(name, 1000)


@pytest.mark.long
@pytest.mark.parametrize("name", SETUPS)
def test_memory_and_s_in_a_long_run(name: str) -> None:
    _check(name, 20_000)
