"""Rules, codecs and steps from outside: names, tags, and the engine."""

from math import fsum
from typing import Any, ClassVar

import numpy as np
import pytest

import lasg_flwr
from lasg_flwr import LasgWorker, simulate
from lasg_flwr.codecs import CODECS, Codec, Dense, codec_from, spec_of, wire
from lasg_flwr.optim import STEPS, Adam, Momentum, step_from
from lasg_flwr.protocol.saving import dump_worker, load_worker
from lasg_flwr.random import keyed_generator
from lasg_flwr.rules import RULES, WK2, WorkerRule, rule_from
from lasg_flwr.vectors import F32, squared_distance
from tests.problems.least_squares import LeastSquares, least_squares
from tests.problems.outside import OPTIONS, Counts, Halves, Impatient, ImpatientState
from tests.problems.protocol.driver import play
from tests.problems.protocol.setups import coarse_codecs
from tests.problems.servers import server_for

ORACLES = least_squares(workers=4)
SIZE = ORACLES[0].size


def plain_loop(rounds: int, c: float, impatience: float) -> tuple[F32, int]:
    """The rule as a loop, dense, with SGD: how many skips there were counts."""
    theta, s = np.zeros(SIZE, np.float32), np.zeros(SIZE)
    h: dict[int, F32] = {}
    skips = dict.fromkeys(range(len(ORACLES)), 0)
    squares: list[float] = []
    uploads = 0
    for k in range(rounds):
        threshold = c / 10 * fsum(squares[-10:])
        new = {}
        for m, oracle in enumerate(ORACLES):
            g = oracle.gradient(theta, oracle.draw(keyed_generator(0, m, k)))
            if m in h:
                lhs = squared_distance(g, h[m]) * (1 + impatience * skips[m])
                if lhs <= threshold:
                    skips[m] += 1
                    continue
            new[m], skips[m] = g, 0
        incoming = sum((new[m].astype(np.float64) for m in new), np.zeros(SIZE))
        outgoing = sum((h[m].astype(np.float64) for m in new if m in h), 0 * s)
        h.update(new)
        s = incoming if len(new) == len(h) else s - outgoing + incoming
        old, theta = theta, (theta - 0.05 * (s / 4)).astype(np.float32)
        squares.append(squared_distance(theta, old))
        uploads += len(new)
    return theta, uploads


def test_a_rule_whose_state_changes_on_skips_takes_its_own_path() -> None:
    rule = Impatient(c=7.5, impatience=0.3)
    result = simulate(ORACLES, np.zeros(SIZE), rounds=60, rule=rule, step=0.05)
    theta, uploads = plain_loop(60, 7.5 / 0.05**2, 0.3)
    assert result.theta.tobytes() == theta.tobytes()
    assert result.ledger.uploads == uploads
    assert 4 < uploads < 240
    lazier = simulate(
        ORACLES, np.zeros(SIZE), rounds=60, rule="test-impatient:c=7.5", step=0.05
    )
    assert lazier.ledger.uploads != uploads


def test_the_state_of_a_skip_is_saved() -> None:
    result = simulate(ORACLES, np.zeros(SIZE), rounds=25, **OPTIONS)
    settings = result.server.settings
    skipped = 0
    for worker in result.workers:
        again = load_worker(dump_worker(worker.state, settings), settings)
        assert repr(again) == repr(worker.state)
        slot = again.committed
        assert slot is not None
        assert isinstance(slot.rule, ImpatientState)
        assert isinstance(slot.rule.counts, Counts)
        skipped += slot.rule.counts.skips
    assert skipped > 0


def test_the_state_rolls_back_when_a_round_fails() -> None:
    class Failing(LeastSquares):
        broken: ClassVar[bool] = False

        def gradient(self, theta: F32, batch: Any) -> F32:
            if self.broken:
                raise RuntimeError("out of memory")
            return super().gradient(theta, batch)

    oracle = Failing(ORACLES[0].x, ORACLES[0].y)
    server = server_for(np.zeros(SIZE), "test-impatient:c=1e9", step=0.05)
    worker = LasgWorker(oracle, 0)
    for _ in range(4):
        ((_, request),) = server.open_round([0])
        reply = worker.handle(request)
        assert reply is not None
        assert server.receive(0, reply).kept
        server.close_round()
    state = worker.state
    assert state.committed is not None
    assert state.committed.rule.counts.skips == 3
    Failing.broken = True
    ((_, request),) = server.open_round([0])
    with pytest.raises(RuntimeError, match="out of memory"):
        worker.handle(request)
    assert worker.state is state
    Failing.broken = False
    assert worker.handle(request) is not None
    assert worker.state.committed is not None
    assert worker.state.committed.rule.counts.skips == 4


@pytest.mark.parametrize("server_memory", ["per-worker", "sum-only"])
def test_random_faults_keep_the_protocol(server_memory: Any) -> None:
    with coarse_codecs():
        for seed in range(40):
            rules = ["test-impatient:impatience=0.5"]
            play(seed, rules=rules, memories=[("innovation", server_memory)])


def test_string_forms() -> None:
    assert rule_from("test-impatient:impatience=2,c=1") == Impatient(1.0, impatience=2)
    assert codec_from("test-halves") == Halves()
    assert spec_of(Impatient(impatience=2)) == "test-impatient:impatience=2"
    assert step_from("adam:rate=0.01") == Adam(0.01)
    assert step_from("momentum:rate=0.1,beta=0.5") == Momentum(0.1, 0.5)
    x = np.array([3, -1.5, 0], np.float32)
    assert wire.decode(wire.encode(Halves(), x), Halves(), 3).tolist() == x.tolist()
    assert wire.encode(Halves(), x)[2] == 200


def test_registering_twice_is_harmless() -> None:
    assert lasg_flwr.register(Impatient) is Impatient
    assert RULES.classes["test-impatient"] is Impatient


def _codec(name: str, tag: Any) -> type[Codec]:
    return type("Made", (Dense,), {"name": name, "tag": tag})


def test_what_is_refused() -> None:
    known = {**RULES.classes, **CODECS.classes, **STEPS.classes}
    for bad, message in (
        (type("Mine", (WK2,), {"name": "wk2"}), "'wk2' is WK2 already"),
        (type("Mine", (WK2,), {}), "name"),
        (type("Mine", (WK2,), {"name": "a:b"}), "name"),
        (type("Half", (WorkerRule,), {"name": "test-half"}), "lacks update"),
        (_codec("test-low", 127), "from 128 to 255"),
        (_codec("test-high", 256), "from 128 to 255"),
        (_codec("test-none", None), "from 128 to 255"),
        (_codec("test-taken", 200), "share tag 200"),
        (_codec("dense", 201), "'dense' is Dense already"),
    ):
        with pytest.raises(ValueError, match=message):
            lasg_flwr.register(bad)
    for nothing in (int, 3, "wk2", WK2()):
        with pytest.raises(TypeError, match="neither a rule, a codec nor"):
            lasg_flwr.register(nothing)  # type: ignore[type-var]
    assert known == {**RULES.classes, **CODECS.classes, **STEPS.classes}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("WK2", "did you mean 'wk2'"),
        ("lasg-wk2", "did you mean 'wk2'"),
        ("wk9", "choose one of"),
        (WK2, r"that is the class; pass an object, WK2\(\)"),
        (0.5, "give a string such as"),
        ("wk2:d=3", "field of c, d_max, max_delay"),
    ],
)
def test_unknown_names_say_what_is_known(spec: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rule_from(spec)


def test_a_state_that_cannot_be_saved_says_where() -> None:
    class Handle(tuple[object, ...]):
        _fields = ("file",)
        file = object()

    result = simulate(ORACLES, np.zeros(SIZE), rounds=2, step=0.05)
    worker = result.workers[0]
    assert worker.state.committed is not None
    slot = worker.state.committed._replace(rule=Handle())
    state = worker.state._replace(committed=slot)
    with pytest.raises(TypeError, match=r"committed\.rule\.file is a object"):
        dump_worker(state, result.server.settings)
