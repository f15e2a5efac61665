"""PSE with a window and with halved batches."""

from typing import Any

import numpy as np
import pytest

from lasg_flwr import Oracle, simulate
from lasg_flwr.oracles import LocalSteps
from lasg_flwr.protocol.saving import load_server, save_server
from lasg_flwr.rules import PSE, Seen, rule_from, worker_spec
from lasg_flwr.rules.pse import PSEState, halved_ratio
from lasg_flwr.vectors import F32
from tests.problems.least_squares import least_squares
from tests.problems.protocol.driver import play
from tests.problems.protocol.setups import coarse_codecs
from tests.problems.servers import server_for

ORACLES = least_squares(workers=4)
SIZE = ORACLES[0].size


def test_string_forms() -> None:
    rule = rule_from("pse:window=10,halves=1")
    assert rule == PSE(window=10, halves=1)
    assert worker_spec(rule) == "pse:halves=1"
    for bad in ("pse:window=-1", "pse:halves=2", "pse:window=1.5"):
        with pytest.raises(ValueError, match=r"window|halves"):
            rule_from(bad)


def test_the_window_is_a_sliding_maximum() -> None:
    ratios = np.random.default_rng(0).random(40)
    rule, state = PSE(window=7), None
    for k, ratio in enumerate(ratios):
        assert rule.learn(state, None) == state
        state = rule.learn(state, float(ratio))
        assert state is not None
        assert state.smoothness == ratios[max(0, k - 6) : k + 1].max()
    wide, all_ = PSE(window=1000), PSE()
    states: list[Any] = [None, None]
    for ratio in ratios:
        states = [r.learn(s, float(ratio)) for r, s in zip((wide, all_), states)]  # noqa: B905
        assert states[0].smoothness == states[1].smoothness


def test_halves_leave_the_noise_out() -> None:
    """E⟨d_A, d_B⟩ = ‖E d‖²; one batch's ‖d‖² has Var d besides.

    d = Δ + noise with Var 4‖Δ‖² on a half, 2‖Δ‖² on the whole batch: the mean square
    of 4,000 ratios is 1 within 4.4 standard errors, that of whole batches 3.
    """
    rng, size, n = np.random.default_rng(1), 50, 4000
    theta = np.zeros(size, np.float32)
    old = theta.copy()
    old[0] = 1.0
    change = theta - old
    squares, whole = [], []
    for _ in range(n):
        noise = rng.standard_normal((2, size)) * np.sqrt(4 / size)
        first, second = (change + noise).astype(np.float32)
        product = float(first @ second)
        squares.append(product)
        ratio = halved_ratio(first, second, theta, old)
        assert ratio == pytest.approx(np.sqrt(max(product, 0.0)), rel=1e-4)
        mean = (first + second) / 2
        whole.append(float(mean @ mean))
    error = np.std(squares) / np.sqrt(n)
    assert abs(np.mean(squares) - 1) < 4.4 * error < 0.1
    assert np.mean(whole) == pytest.approx(3, rel=0.05)
    assert halved_ratio(change, change, theta, theta) is None


def test_the_ratio_is_that_of_the_halves() -> None:
    theta, one = np.zeros(2, np.float32), np.ones(2, np.float32)
    seen = Seen(theta, 1, 3 * one, one, True, changes=(one, 2 * one))
    state = PSEState(one)
    assert PSE(halves=1).update(state, seen).smoothness_ratio == pytest.approx(2**0.5)
    whole = PSE().update(state, seen._replace(changes=None)).smoothness_ratio
    assert whole == pytest.approx(2.0)


def run(rule: str, oracles: Any = ORACLES, **options: Any) -> Any:
    return simulate(oracles, np.zeros(SIZE), rounds=80, rule=rule, step=0.05, **options)


def test_forgetting_saves_uploads() -> None:
    """The first steps are the longest; the noise of the changes never falls."""
    plain, *forgetful = (
        run(rule) for rule in ("pse", "pse:window=3", "pse:window=3,halves=1")
    )
    for result in forgetful:
        assert 4 * 2 < result.ledger.uploads < plain.ledger.uploads
    evaluations = [r.ledger.gradient_evaluations for r in (plain, *forgetful)]
    uploads = [r.ledger.uploads for r in (plain, *forgetful)]
    assert evaluations[0] == 2 * uploads[0] - 4
    assert evaluations[2] == 4 * uploads[2] - 3 * 4


def test_halves_of_local_steps() -> None:
    oracles = [LocalSteps(oracle, 3, 0.05) for oracle in ORACLES]
    batches = oracles[0].draw(np.random.default_rng(0))
    first, second = oracles[0].halves(batches)
    for a, b, both in zip(first, second, batches, strict=True):
        assert np.array_equal(np.concatenate([a, b]), both)
    result = simulate(oracles, np.zeros(SIZE), rounds=20, rule="pse:halves=1", step=1.0)
    assert result.ledger.uploads < 80


def test_an_oracle_that_cannot_halve_says_so() -> None:
    class Odd(Oracle):
        num_examples = 1

        def draw(self, rng: np.random.Generator) -> str:
            return "everything"

        def gradient(self, theta: F32, batch: str) -> F32:
            return theta - np.float32(1)

    with pytest.raises(TypeError, match=r"Odd cannot halve.*halves\(batch\)"):
        run("pse:halves=1", [Odd()])


def test_what_is_kept_survives_a_checkpoint(tmp_path: Any) -> None:
    rule = "pse:window=3,halves=1"
    whole = run(rule)
    first = simulate(ORACLES, np.zeros(SIZE), rounds=30, rule=rule, step=0.05)
    save_server(first.server, tmp_path / "server.safetensors")
    server = server_for(np.zeros(SIZE), rule, step=0.05)
    load_server(server, tmp_path / "server.safetensors")
    for _ in range(50):
        for node, request in server.open_round(range(4)):
            reply = first.workers[node].handle(request)
            assert reply is not None
            assert server.receive(node, reply).kept
        server.close_round()
    assert server.theta.tobytes() == whole.theta.tobytes()
    assert server.ledger.uploads == whole.ledger.uploads


def test_random_faults_keep_the_protocol() -> None:
    with coarse_codecs():
        for seed in range(20):
            play(seed, rules=["pse:window=2"])
