"""Both state machines through random faults, against an independent model.

The model and the driver are in `tests.problems.protocol`. The same events are drawn
here by hypothesis (which shrinks a failure) and from seeds (which are fast and many).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from lasg_flwr import Oracle
from lasg_flwr.config import MemoryName, ServerMemoryName
from lasg_flwr.protocol import LasgWorker
from lasg_flwr.protocol.messages import Reply
from lasg_flwr.protocol.saving import Capture, capture, restore
from lasg_flwr.protocol.upload_ids import upload_id
from lasg_flwr.vectors import F32
from tests.problems.protocol.driver import play
from tests.problems.protocol.history import History
from tests.problems.protocol.model import same
from tests.problems.protocol.setups import (
    MEMORIES,
    RULES,
    Setup,
    coarse_codecs,
    random_setup,
)
from tests.problems.servers import server_for

HISTORIES = 30
MEMORY_CASES = [pytest.param(m, id="/".join(m)) for m in MEMORIES]


@pytest.fixture(scope="module", autouse=True)
def _codecs() -> Iterator[None]:
    with coarse_codecs():
        yield


# --- many seeds -------------------------------------------------------------------


@pytest.mark.parametrize("rule_", RULES)
@pytest.mark.parametrize("memory", MEMORY_CASES)
def test_random_histories_keep_the_protocol(
    memory: tuple[MemoryName, ServerMemoryName], rule_: str
) -> None:
    for seed in range(HISTORIES):
        play(seed, rules=[rule_], memories=[memory])


def test_the_histories_are_not_vacuous() -> None:
    """Every kind of event that the sweep is meant to cover does occur in it."""
    histories = [play(seed) for seed in range(60)]
    sum_only = [h for h in histories if h.setup.sum_only]
    ledgers = [h.server.ledger for h in histories]
    reasons = {reason for ledger in ledgers for reason in ledger.refused}
    assert {"other round", "duplicate"} <= reasons
    assert {h.setup.rule for h in histories} == set(RULES)
    assert sum(h.uploads for h in histories) > 2_000
    assert sum(h.innovations for h in histories) > 1_000
    assert sum(ledger.skips for ledger in ledgers) > 300
    assert sum(h.server.ledger.new_starts > 0 for h in sum_only) > len(sum_only) / 2
    assert sum(h.restores for h in histories) > 60


def _setup(memory: tuple[MemoryName, ServerMemoryName], codec: str) -> Setup:
    return Setup("wk2", codec, memory=memory[0], server_memory=memory[1])


@pytest.mark.parametrize("memory", MEMORY_CASES)
def test_a_clean_resume_costs_nothing_and_changes_nothing(
    memory: tuple[MemoryName, ServerMemoryName],
) -> None:
    setup = _setup(memory, MEMORIES[memory][-1])
    straight, resumed = History(setup, 0), History(setup, 0)
    for _ in range(30):
        resumed.checkpoint()
        resumed.restore(-1)
        straight.clean_round()
        resumed.clean_round()
        assert same(straight.server.theta, resumed.server.theta)
    assert straight.server.ledger == resumed.server.ledger


@pytest.mark.parametrize("memory", MEMORY_CASES)
def test_a_captured_state_does_not_change_when_the_server_goes_on(
    memory: tuple[MemoryName, ServerMemoryName],
) -> None:
    history = History(_setup(memory, MEMORIES[memory][-1]), 0)
    history.clean_round()
    arrays, meta = capture(history.server)
    before = {name: array.copy() for name, array in arrays.items()}
    for _ in range(5):
        history.clean_round()
    assert all(same(arrays[name], before[name]) for name in before)
    restore(history.setup.server(), Capture(arrays, meta))


class Noise(Oracle):
    """Float gradients whose sum depends on the order of summation."""

    num_examples = 1

    def draw(self, rng: np.random.Generator) -> F32:
        return rng.lognormal(0, 8, 4).astype(np.float32)

    def gradient(self, theta: F32, batch: F32) -> F32:
        return batch


@pytest.mark.parametrize("server_memory", ["per-worker", "sum-only"])
@pytest.mark.parametrize("introduced", [0, 3, 6])
def test_the_order_of_arrival_does_not_matter(
    server_memory: ServerMemoryName, introduced: int
) -> None:
    keys = [4, 1, 5, 0, 3, 2]
    results = set()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        theta = np.zeros(4, np.float32)
        server = server_for(theta, "sgd", server_memory=server_memory, step=1e-9)
        workers = [LasgWorker(Noise(), key) for key in keys]
        for node in range(introduced):
            server.introduce(node, keys[node])
        for _ in range(3):
            requests = server.open_round(range(6))
            for i in rng.permutation(6):
                node, request = requests[i]
                reply = workers[node].handle(request)
                assert reply is not None
                server.receive(node, reply)
            server.close_round()
        results.add(server.sum.total.tobytes() + server.theta.tobytes())
    assert len(results) == 1


# --- mutants: the test bites --------------------------------------------------------

BLANK: dict[str, Any] = {"payload": b"", "session": bytes(16), "round": 0}

# Histories of `play` that catch each mutant. Of seeds 0 to 1499, 532, 8 and 95 did: a
# payload or a round may be left out in many ways, but a session only shows when a
# server restored from a checkpoint comes to the same round with another θ, the worker
# sends it the same payload, and then meets what it sent in the earlier session. If a
# change of the driver moves them, search again.
CAUGHT_BY = {
    "payload": (0, 1, 2, 5, 7, 13, 15, 24),
    "session": (9, 58, 93, 616, 893, 1072, 1307, 1397),
    "round": (1, 2, 16, 18, 57, 61, 62, 63, 68, 113),
}


def _without(field: str) -> Any:
    def mutant(have: bytes | None, reply: Reply, model: bytes | None) -> bytes:
        return upload_id(have, reply._replace(**{field: BLANK[field]}), model)

    return mutant


def _breaks(seed: int) -> bool:
    try:
        play(seed)
    except AssertionError as error:
        return "equal ids" in str(error)
    return False


@pytest.mark.parametrize("field", CAUGHT_BY)
def test_an_id_without_a_field_is_caught(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = CAUGHT_BY[field]
    assert not any(_breaks(seed) for seed in seeds)
    monkeypatch.setattr("lasg_flwr.protocol.worker.upload_id", _without(field))
    monkeypatch.setattr("lasg_flwr.protocol.rounds.upload_id", _without(field))
    assert any(_breaks(seed) for seed in seeds)


# --- hypothesis ---------------------------------------------------------------------

INDEX = st.integers(0, 11)


class ProtocolMachine(RuleBasedStateMachine):
    """The events of `History`, in any order; at the end everybody recovers."""

    history: History

    @initialize(seed=st.integers(0, 2**16), workers=st.integers(1, 3))
    def start(self, seed: int, workers: int) -> None:
        setup = random_setup(np.random.default_rng(seed))
        self.history = History(setup, seed, workers)

    def _key(self, index: int) -> int:
        keys = sorted(self.history.workers)
        return keys[index % len(keys)]

    @rule(absent=st.sets(INDEX, max_size=2))
    def open_round(self, absent: set[int]) -> None:
        away = {self._key(index) for index in absent}
        self.history.open([k for k in self.history.workers if k not in away])

    @rule(first=INDEX, lost=st.booleans())
    @precondition(lambda self: self.history.is_open)
    def exchange(self, first: int, lost: bool) -> None:
        """Deliver the round's requests but for the first few, and the replies."""
        count = len(self.history.asked)
        asked = range(len(self.history.requests))[len(self.history.requests) - count :]
        for index in asked[first % (count + 1) :]:
            answer = self.history.deliver_request(index)
            if answer is not None and not lost:
                self.history.deliver_reply(answer)

    @rule(back=INDEX)
    @precondition(lambda self: self.history.requests)
    def deliver_old_request(self, back: int) -> None:
        self.history.deliver_request(max(0, len(self.history.requests) - 1 - back))

    @rule(back=INDEX)
    @precondition(lambda self: self.history.letters)
    def deliver_old_reply(self, back: int) -> None:
        self.history.deliver_reply(max(0, len(self.history.letters) - 1 - back))

    @rule(worker=INDEX, new_node=st.booleans())
    def wipe(self, worker: int, new_node: bool) -> None:
        self.history.wipe(self._key(worker), new_node)

    @rule(worker=INDEX, new_node=st.booleans())
    def rewind(self, worker: int, new_node: bool) -> None:
        self.history.rewind(self._key(worker), new_node)

    @rule()
    def join(self) -> None:
        self.history.join()

    @rule(worker=INDEX)
    def leave(self, worker: int) -> None:
        self.history.leave(self._key(worker))

    @rule()
    def checkpoint(self) -> None:
        self.history.checkpoint()

    @rule(back=INDEX)
    def restore(self, back: int) -> None:
        self.history.restore(max(0, len(self.history.checkpoints) - 1 - back))

    @rule()
    def clean_round(self) -> None:
        self.history.clean_round()

    def teardown(self) -> None:
        if hasattr(self, "history"):
            self.history.close()
            self.history.recover()


TestProtocolMachine = ProtocolMachine.TestCase
TestProtocolMachine.settings = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
