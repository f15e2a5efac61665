"""The variance-reduced rule: its laws, and where it equals other rules."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lasg_flwr import LasgServer, LasgWorker, Oracle, simulate
from lasg_flwr.protocol.rounds import RoundReport
from lasg_flwr.rules import VR, Seen, rule_from, worker_spec
from lasg_flwr.rules.vr import VRState, reduced
from lasg_flwr.vectors import F32, F64, squared_distance
from tests.problems.least_squares import LeastSquares, least_squares
from tests.problems.protocol.driver import play
from tests.problems.protocol.setups import MEMORIES, coarse_codecs
from tests.problems.servers import server_for

ORACLES = least_squares(workers=4)
SIZE = ORACLES[0].size


class Full(LeastSquares):
    """The full gradient in every round."""

    def draw(self, rng: np.random.Generator) -> Any:
        return np.arange(len(self.y))


def path_of(oracles: Any, rounds: int = 60, **options: Any) -> tuple[list[bytes], Any]:
    path: list[bytes] = []

    def note(server: LasgServer, report: RoundReport) -> None:
        path.append(server.theta.tobytes())

    options = {"step": 0.05, **options}
    result = simulate(oracles, np.zeros(SIZE), rounds=rounds, callback=note, **options)
    return path, result


def test_string_forms() -> None:
    assert rule_from("vr:c=2,growth=0,n_max=9") == VR(2.0, growth=0.0, n_max=9.0)
    assert worker_spec(VR(c=2.0, growth=3.0, n_max=9.0)) == "vr:n_max=9.0"
    server = server_for(np.zeros(2), "vr", step=0.1)
    assert server.config.threshold_constant == 0.125
    for bad in ("vr:growth=-1", "vr:n_max=0.5", "vr:c=x", "vr:warmup=0.5"):
        with pytest.raises(ValueError, match=r"growth|n_max|c must|warmup"):
            rule_from(bad)


def test_the_threshold_grows() -> None:
    server = server_for(np.zeros(2), "vr:c=3,growth=10,warmup=3", step=0.1)
    server.history.push(10.0)
    assert server.threshold == pytest.approx(3.0)  # whose uploads are all forced
    server.round = 3
    assert server.threshold == 0.0
    server.round = 4
    assert server.threshold == pytest.approx(3.0 * (1 + 0.4**1.5))
    server.round = 40
    assert server.threshold == pytest.approx(27.0)  # 3 (1 + 4^1.5)
    assert rule_from("vr").threshold_scale(10**6) == 80.0
    assert rule_from("vr:growth=0,warmup=0").threshold_scale(1) == 1.0


vectors = st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3).map(
    lambda x: np.array(x, np.float32)
)


@settings(max_examples=300, deadline=None)
@given(vectors, vectors, vectors, st.floats(1, 50), st.floats(0, 1e12))
def test_the_coefficient_lies_between_0_and_1(
    g: F32, old: F32, estimate: F32, n: float, noise: float
) -> None:
    state = VRState(g, estimate, n, noise, 0, None)
    v, coefficient, batches = reduced(g, old, state, noise)
    assert 0 <= coefficient <= n / (n + 1) * (1 + 1e-12)
    assert batches >= 1
    if coefficient == 0:
        assert v.tobytes() == g.tobytes()


class Population:
    """g(θ; ξ) = (1 + ε_ξ) θ − b_ξ over a finite population of (ε, b), all known."""

    def __init__(self, seed: int, spread: float) -> None:
        rng = np.random.default_rng(seed)
        epsilons = rng.standard_normal(12) * spread
        noises = rng.standard_normal((15, 3))
        self.samples = list(
            product(epsilons - epsilons.mean(), noises - noises.mean(axis=0))
        )

    def gradients(self, theta: F64) -> F64:
        return np.array([(1 + e) * theta - b for e, b in self.samples])


def _variance(x: F64) -> float:
    return float(((x - x.mean(axis=0)) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize("distance", [0.05, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("n", [1.0, 5.0, 40.0])
@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_unbiased_with_the_declared_variance(
    distance: float, n: float, spread: float
) -> None:
    """Exactly, over all ξ; A is the mean of n minibatch gradients at θ_a.

    The two points are equally long, so that Var g = Var g' = s, as the rule assumes.
    """
    population = Population(0, spread)
    theta = np.array([1.0, 0.0, 0.0])
    angle = 2 * np.arcsin(min(1.0, distance / 2))
    anchor = np.array([np.cos(angle), np.sin(angle), 0.0])
    g, old = population.gradients(theta), population.gradients(anchor)
    s = _variance(g)
    assert _variance(old) == pytest.approx(s)
    change = float(((g - old) ** 2).sum(axis=1).mean())
    state = VRState(*(np.zeros(1, np.float32),) * 2, n, s, 0, None)
    pair = np.array([[np.sqrt(change)], [0.0]], np.float32)
    lam = reduced(pair[0], pair[1], state, s).coefficient

    def variance(lam: float) -> float:
        v = g - lam * old
        assert np.allclose(v.mean(axis=0) + lam * old.mean(axis=0), g.mean(axis=0))
        return _variance(v) + lam**2 * s / n

    bound = s * ((1 - lam) ** 2 + lam * change / s + lam**2 / n)
    assert variance(lam) <= bound * (1 + 1e-6)
    assert bound <= s * (1 + 1e-6)
    for mutant in (lam * 0.5, lam + 0.5 * (1 - lam), 1.0):
        worse = s * ((1 - mutant) ** 2 + mutant * change / s + mutant**2 / n)
        assert worse >= bound * (1 - 1e-6)
    if distance == 0.05 and n == 40 and spread == 0.1:
        assert variance(lam) < s / 10
        assert variance(1.7) > bound  # a λ out of its range is seen


def test_with_full_gradients_it_is_lag() -> None:
    oracles = [Full(o.x, o.y) for o in ORACLES]
    lazy, result = path_of(oracles, rule="vr:c=0.1,growth=0,warmup=0")
    lag, other = path_of(oracles, rule="lag:c=0.1")
    assert lazy == lag  # the thresholds differ by rounding alone
    assert result.ledger.uploads == other.ledger.uploads < 240


def test_without_a_threshold_everybody_uploads() -> None:
    _, result = path_of(ORACLES, rule="vr:c=0")
    assert result.ledger.uploads == 240


def test_nothing_new_is_not_uploaded() -> None:
    """v = h: the same gradient at the same point."""

    class Still(Oracle):
        num_examples = 1

        def draw(self, rng: np.random.Generator) -> Any:
            return None

        def gradient(self, theta: F32, batch: Any) -> F32:
            return np.ones_like(theta)

    _, result = path_of([Still()], rounds=20, rule="vr:c=0")
    assert result.ledger.uploads == 1


def test_it_is_not_its_relatives() -> None:
    """With equal thresholds it takes another path than WK2, LAG and SGD."""
    paths = [path_of(ORACLES, rule=r)[0][-1] for r in ("sgd", "lag", "wk2", "vr")]
    assert len(set(paths)) == 4


@pytest.mark.parametrize("memory", [("innovation", "sum-only"), ("gradient", None)])
@pytest.mark.parametrize("codec", ["dense", "qsgd:bits=4,bucket=4"])
def test_memories_and_codecs(memory: tuple[str, str | None], codec: str) -> None:
    options = {"memory": memory[0], "server_memory": memory[1] or "per-worker"}
    plain = path_of(ORACLES, rounds=200, rule="sgd")[1].theta
    _, result = path_of(ORACLES, rounds=200, rule="vr", codec=codec, **options)
    worth = float(np.linalg.norm(result.theta - plain) / np.linalg.norm(plain))
    assert worth < 0.15
    assert result.ledger.uploads < 600


def test_dense_under_both_server_memories_takes_the_same_path() -> None:
    held, summed = (
        path_of(ORACLES, rule="vr", server_memory=m)[1]
        for m in ("per-worker", "sum-only")
    )
    np.testing.assert_allclose(held.theta, summed.theta, rtol=1e-4, atol=1e-6)
    assert held.ledger.uploads == summed.ledger.uploads


def _request(server: LasgServer) -> Any:
    ((_, request),) = server.open_round([0])
    return request


def test_a_repeated_round_is_not_counted_twice() -> None:
    """A restored server repeats rounds with the same batches."""
    server = server_for(np.zeros(SIZE), "vr:c=1e12,warmup=0", step=0.05)
    worker = LasgWorker(ORACLES[0], 0)
    for k in range(6):
        request = _request(server)
        reply = worker.handle(request)
        assert reply is not None
        assert server.receive(0, reply).kept
        server.close_round()
        assert (reply.kind == "skip") == (k > 0)
    slot = worker.state.committed
    assert slot is not None
    assert (slot.rule.batches, slot.rule.counted) == (6.0, 5)
    worker.handle(request._replace(session=bytes(16)))
    assert worker.state.committed is not None
    assert worker.state.committed.rule is slot.rule


def test_an_unknown_upload_keeps_the_noise_alone() -> None:
    server = server_for(np.zeros(SIZE), "vr", step=0.05)
    worker = LasgWorker(ORACLES[0], 0)
    for _ in range(4):
        reply = worker.handle(_request(server))
        assert reply is not None
        assert server.receive(0, reply).kept
        server.close_round()
    before = worker.state.pending or worker.state.committed
    assert before is not None
    noise = before.rule.noise
    assert noise > 0
    reply = worker.handle(_request(server)._replace(accepted_id=bytes(16)))
    assert reply is not None
    assert (reply.kind, reply.gradient_evaluations) == ("full", 1)
    assert worker.state.pending is not None
    after = worker.state.pending.rule
    assert (after.batches, after.noise) == (1.0, noise)


def test_a_forced_upload_is_of_v_and_not_of_g() -> None:
    rule, zero = VR(), np.zeros(2, np.float32)
    state = VRState(zero, np.ones(2, np.float32), 20.0, 4.0, 0, None)
    g, old = np.array([3, 1], np.float32), np.array([3, 1], np.float32)
    outcome = rule.update(state, Seen(zero, 9, g, old, forced=True))
    assert rule.reference_point(state, forced=True) is state.theta
    assert squared_distance(outcome.vector, state.estimate) < 0.1
    assert outcome.kept is not None
    assert outcome.kept.batches == 21.0


@pytest.mark.parametrize("memory", MEMORIES, ids="/".join)
def test_random_faults_keep_the_protocol(memory: Any) -> None:
    with coarse_codecs():
        for seed in range(40):
            play(seed, rules=["vr", "vr:growth=3,n_max=4"], memories=[memory])


@pytest.mark.parametrize("step", ["sgd:rate=0.05", "adam:rate=0.05"])
def test_the_threshold_is_over_gradients_whatever_the_step(step: str) -> None:
    """T^k = c_k/d_max Σ ‖∇^{k−d}‖²; ∇ is that of the last S."""
    squares: list[float] = []

    def note(server: LasgServer, report: RoundReport) -> None:
        k = report.round
        scale = 0.0 if k <= 3 else 1 + (k / 60) ** 1.5
        expected = 0.125 * scale / 10 * sum(squares[-10:])
        assert report.threshold == pytest.approx(expected, rel=1e-12)
        squares.append(squared_distance(server.sum.mean()))

    simulate(ORACLES, np.zeros(SIZE), rounds=30, rule="vr", step=step, callback=note)
    assert len(squares) == 30


def test_the_first_rounds_take_sgds_steps() -> None:
    rounds = []
    for rule in ("sgd", "vr:warmup=6", "vr:warmup=0"):
        path, result = path_of(ORACLES, rounds=8, rule=rule)
        rounds.append(path)
        if rule == "vr:warmup=6":
            assert result.ledger.uploads >= 7 * 4  # round 6 replaces each g by a v
    sgd, warm, cold = rounds
    assert warm[:6] == sgd[:6]
    assert warm[6] != sgd[6]
    assert cold[1] != sgd[1]
