"""The in-process engine: SGD to the bit, real data, and errors."""

from typing import Any, cast

import numpy as np
import pytest

from experiments.tasks import Batch, LogisticOracle, Task
from lasg_flwr import (
    DuplicateKeyError,
    LasgError,
    LasgServer,
    LasgWorker,
    NonFiniteGradientError,
    simulate,
)
from lasg_flwr.optim import Adam
from lasg_flwr.protocol.rounds import RoundReport
from lasg_flwr.random import keyed_generator
from lasg_flwr.rules import WK2
from lasg_flwr.vectors import F32
from tests.problems.least_squares import LeastSquares, least_squares
from tests.problems.real_data import task_or_skip
from tests.problems.servers import server_for

ROUNDS = 300
ETA = 0.1


@pytest.fixture(scope="module")
def mnist35() -> Task:
    return task_or_skip("mnist35", 10, "iid", Batch(fraction=0.01))


@pytest.fixture(scope="module")
def sgd_path(mnist35: Task) -> list[bytes]:
    """Plain distributed SGD, equation (3), written without this package's engine."""
    theta = np.zeros(mnist35.size, np.float32)
    path = []
    for k in range(ROUNDS):
        total = np.zeros(mnist35.size)
        for m, oracle in enumerate(mnist35.oracles):
            total += oracle.gradient(theta, oracle.draw(keyed_generator(0, m, k)))
        mean = total / len(mnist35.oracles)
        theta = (theta.astype(np.float64) - ETA * mean).astype(np.float32)
        path.append(theta.tobytes())
    return path


def path_of(task: Task, **options: Any) -> list[bytes]:
    path = []

    def note(server: LasgServer, report: RoundReport) -> None:
        path.append(server.theta.tobytes())

    simulate(
        task.oracles,
        np.zeros(task.size),
        rounds=ROUNDS,
        step=ETA,
        callback=note,
        **options,
    )
    return path


def test_always_with_dense_is_sgd_to_the_bit(
    mnist35: Task, sgd_path: list[bytes]
) -> None:
    assert path_of(mnist35, rule="sgd") == sgd_path


def test_wk2_with_c_0_is_sgd_to_the_bit(mnist35: Task, sgd_path: list[bytes]) -> None:
    assert path_of(mnist35, rule=WK2(c=0.0)) == sgd_path


@pytest.mark.parametrize("rule", ["wk1", "wk2", "pse"])
def test_skipping_changes_the_path(
    mnist35: Task, sgd_path: list[bytes], rule: str
) -> None:
    assert path_of(mnist35, rule=rule)[10:] != sgd_path[10:]


def test_always_with_dense_under_sum_only_memory_is_sgd_to_rounding(
    mnist35: Task, sgd_path: list[bytes]
) -> None:
    last = path_of(mnist35, rule="sgd", server_memory="sum-only")[-1]
    np.testing.assert_allclose(
        np.frombuffer(last, np.float32),
        np.frombuffer(sgd_path[-1], np.float32),
        rtol=1e-4,
        atol=1e-6,
    )


def test_batched_gradients_give_the_same_path() -> None:
    oracles = least_squares()
    calls = []

    def batched(workers: Any, thetas: Any, batches: Any) -> list[F32]:
        calls.append(len(workers))
        jobs = zip(workers, thetas, batches, strict=True)
        return [oracles[i].gradient(theta, batch) for i, theta, batch in jobs]

    one, together = (
        simulate(oracles, np.zeros(6), rounds=40, step=0.05, batched_gradient=how)
        for how in (None, batched)
    )
    assert one.theta.tobytes() == together.theta.tobytes()
    assert one.ledger == together.ledger
    assert calls[0] == 4
    assert max(calls) == 8


def test_sampling_reaches_only_some_and_the_callback_can_stop() -> None:
    oracles = least_squares()
    seen: list[int] = []

    def stop(server: LasgServer, report: RoundReport) -> bool:
        seen.append(report.contacted)
        return report.round == 4

    result = simulate(
        oracles,
        np.zeros(6),
        rounds=100,
        step=0.05,
        sample=lambda k: [k % 4, (k + 1) % 4],
        callback=stop,
    )
    assert seen == [2] * 5
    assert result.server.round == 5


def test_keys_order_the_sum_whatever_the_order_of_oracles() -> None:
    oracles = least_squares()
    straight = simulate(oracles, np.zeros(6), rounds=30, step=0.05, keys=[3, 5, 8, 13])
    turned = simulate(
        oracles[::-1], np.zeros(6), rounds=30, step=0.05, keys=[13, 8, 5, 3]
    )
    assert straight.theta.tobytes() == turned.theta.tobytes()
    assert [w.key for w in turned.workers] == [3, 5, 8, 13]


def test_bad_arguments_of_simulate() -> None:
    oracles = least_squares()
    with pytest.raises(ValueError, match="at least one oracle"):
        simulate([], np.zeros(6), rounds=1)
    with pytest.raises(ValueError, match="rounds must be an integer >= 0"):
        simulate(oracles, np.zeros(6), rounds=-1)
    with pytest.raises(ValueError, match=r"an integer >= 0, got 1\.5"):
        simulate(oracles, np.zeros(6), rounds=cast(Any, 1.5))
    with pytest.raises(DuplicateKeyError, match="distinct keys"):
        simulate(oracles, np.zeros(6), rounds=1, keys=[0, 1, 1, 2])
    with pytest.raises(ValueError, match="positions of no worker"):
        simulate(oracles, np.zeros(6), rounds=1, sample=lambda k: [9])
    with pytest.raises(TypeError, match="no oracle"):
        simulate([object()], np.zeros(6), rounds=1)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "wk7"}, "unknown rule 'wk7'"),
        ({"rule": "wk2:c=-1"}, "c must be finite and >= 0"),
        ({"rule": "wk2:speed=1"}, "bad option 'speed=1'"),
        ({"rule": "wk1:max_delay=5,d_max=10"}, "WK1 needs max_delay >= d_max"),
        ({"rule": "wk2:d_max=0"}, "d_max must be an integer >= 1"),
        ({"rule": "wk2:max_delay=1.5"}, "max_delay must be an integer >= 1"),
        ({"rule": "ps"}, "PS has no smoothness constant"),
        ({"rule": 3}, "bad rule 3: give a string such as 'lag'"),
        ({"rule": None}, "bad rule None"),
        ({"rule": "wk2:c=x"}, "c must be a number, got 'x'"),
        ({"codec": 5}, "bad codec 5: give a string such as 'dense'"),
        ({"codec": ["dense", 5]}, "bad codec 5"),
        ({"codec": "topk:fraction=0.1,k=3"}, "are both given"),
        ({"codec": "topk:fraction=x"}, "fraction must be a number, got 'x'"),
        ({"codec": "rar"}, "unknown codec 'rar'"),
        ({"codec": "topk:k=0"}, "k must be an integer >= 1"),
        ({"codec": "topk:fraction=2"}, r"fraction must lie in \(0, 1\]"),
        ({"codec": "topk", "memory": "gradient"}, "is biased"),
        ({"memory": "gradient", "server_memory": "sum-only"}, "gradient memory needs"),
        ({"memory": "elephant"}, "choose one of innovation, gradient, error"),
        ({"step": 0.0}, "rate must be finite and > 0"),
        ({"weights": "votes"}, "weights must be"),
        ({"seed": -1}, "seed must be"),
        ({"lost_share": 2.0}, "lost_share must lie in"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        server_for(np.zeros(3), **options)


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (np.zeros(0), r"got shape \(0,\)$"),
        (np.zeros((2, 2)), r"flatten it with theta.ravel\(\)"),
        (np.array([0, np.nan]), "got nan at position 1: start from finite values"),
    ],
)
def test_bad_theta_is_refused(theta: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"theta must be a finite vector.*{message}"):
        server_for(theta)


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match="data set of a worker is empty"):
        LogisticOracle(np.zeros((0, 3), np.float32), np.zeros(0, np.float32), 1)
    empty = LeastSquares(np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="num_examples=0"):
        LasgWorker(empty, 0)


class Broken(LeastSquares):
    """Returns what a test asks for instead of a gradient."""

    answer: Any = None

    def gradient(self, theta: F32, batch: Any) -> Any:
        return super().gradient(theta, batch) if self.answer is None else self.answer


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (np.full(6, np.nan, np.float32), NonFiniteGradientError, "NaN or infinity"),
        (np.full(6, np.inf, np.float32), NonFiniteGradientError, "NaN or infinity"),
        (np.zeros(7, np.float32), ValueError, r"shape \(7,\)"),
        (np.zeros(6), ValueError, "dtype float64"),
    ],
)
@pytest.mark.parametrize("rounds_before", [0, 3])
def test_a_bad_gradient_leaves_the_worker_as_it_was(
    answer: Any, error: type[Exception], message: str, rounds_before: int
) -> None:
    good = least_squares()[0]
    worker = LasgWorker(Broken(good.x, good.y), 0)
    server = server_for(np.zeros(6), "lag", step=0.05)
    for _ in range(rounds_before):
        ((_, request),) = server.open_round([0])
        reply = worker.handle(request)
        assert reply is not None
        assert server.receive(0, reply).kept
        server.close_round()
    ((_, request),) = server.open_round([0])
    before = worker.state
    object.__setattr__(worker.oracle, "answer", answer)
    with pytest.raises(error, match=message):
        worker.handle(request)
    assert worker.state == before
    object.__setattr__(worker.oracle, "answer", None)
    reply = worker.handle(request)
    assert reply is not None
    assert server.receive(0, reply).kept


def test_a_theta_of_another_length_changes_nothing() -> None:
    worker = LasgWorker(least_squares()[0], 0)
    server = server_for(np.zeros(9))
    ((_, request),) = server.open_round([0])
    before = worker.state
    with pytest.raises(ValueError, match="hold other"):
        worker.handle(request)
    assert worker.state == before


def test_divergence_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(LasgError, match="training diverged; lower the learning rate"):
        simulate(least_squares(), np.zeros(6), rounds=1000, rule="sgd", step=1e3)


@pytest.mark.parametrize("count", [200.0, lambda: 200, True])
def test_num_examples_must_be_an_integer(count: Any) -> None:
    class Odd(LeastSquares):
        num_examples = count

    good = least_squares()[0]
    with pytest.raises(TypeError, match="num_examples must be an integer"):
        LasgWorker(Odd(good.x, good.y), 0)


def test_a_gradient_that_is_no_array_names_the_remedy() -> None:
    class Listed(LeastSquares):
        def gradient(self, theta: F32, batch: Any) -> Any:
            return [0.0] * 6

    good = least_squares()[0]
    with pytest.raises(ValueError, match="expected a NumPy array"):
        simulate([Listed(good.x, good.y)], np.zeros(6), rounds=1)


def test_a_step_object_serves_two_runs() -> None:
    step = Adam(0.05)
    options: dict[str, Any] = {"rule": WK2(), "step": step}
    first, second = (
        simulate(least_squares(), np.zeros(6), rounds=10, **options) for _ in range(2)
    )
    assert first.theta.tobytes() == second.theta.tobytes()
