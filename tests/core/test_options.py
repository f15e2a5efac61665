"""Every numeric option takes any number of Python's kinds, and refuses the rest."""

import json
from collections.abc import Callable
from fractions import Fraction
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from lasg_flwr import LasgConfig, LasgServer, LasgWorker, Oracle, simulate
from lasg_flwr.clients.numpy_client import worker_key
from lasg_flwr.clients.state_store import ContextStore
from lasg_flwr.codecs import ECSQ, QSGD, RandK, TopK, TopKQSGD, Uniform
from lasg_flwr.config import U64
from lasg_flwr.optim import SGD, Adam, Cosine, Momentum
from lasg_flwr.optim.schedules import Constant, Decreasing, Exponential
from lasg_flwr.oracles import BatchSchedule, LocalSteps
from lasg_flwr.protocol.heads import settings_from, settings_text
from lasg_flwr.registry import spec_of
from lasg_flwr.rules import LAG, PS, PSE, WK1, WK2, Rule, rule_from
from lasg_flwr.strategies import (
    LasgStrategy,
    LazyFedAvg,
    LegacyLasgStrategy,
    LegacyLazyFedAvg,
)
from lasg_flwr.vectors import F32
from tests.problems.least_squares import least_squares

Make = Callable[[Any], Any]
ORACLE = least_squares(workers=1)[0]

REAL: dict[str, Make] = {
    "c of WK2": lambda x: WK2(c=x),
    "c of LAG": lambda x: LAG(c=x),
    "c of PSE": lambda x: PSE(c=x),
    "smoothness": lambda x: PS(smoothness=x),
    "rate of SGD": lambda x: SGD(x),
    "rate of Adam": lambda x: Adam(x),
    "rate of Momentum": lambda x: Momentum(x),
    "beta": lambda x: Momentum(0.1, beta=x),
    "epsilon": lambda x: Adam(0.1, epsilon=x),
    "step": lambda x: LasgConfig("sgd", step=x),
    "step under WK2": lambda x: LasgConfig("wk2", step=x),
    "lost_share": lambda x: LasgConfig(lost_share=x),
    "norm_bound": lambda x: LasgConfig(norm_bound=x),
    "constant": Constant,
    "cosine": lambda x: Cosine(x, rounds=10),
    "exponential": lambda x: Exponential(x, factor=0.5),
    "factor": lambda x: Exponential(0.1, factor=x),
    "mu": lambda x: Decreasing(mu=x, k0=1.0),
    "k0": lambda x: Decreasing(mu=1.0, k0=x),
    "fraction of TopK": lambda x: TopK(fraction=x),
    "fraction of RandK": lambda x: RandK(fraction=x),
    "learning_rate": lambda x: LocalSteps(ORACLE, 2, x),
    "momentum": lambda x: LocalSteps(ORACLE, 2, 0.1, momentum=x),
    "weight_decay": lambda x: LocalSteps(ORACLE, 2, 0.1, weight_decay=x),
    "proximal": lambda x: LocalSteps(ORACLE, 2, 0.1, proximal=x),
    "fraction_train": lambda x: LasgStrategy(fraction_train=x),
    "fraction_evaluate": lambda x: LasgStrategy(fraction_evaluate=x),
    "round_seconds": lambda x: LasgStrategy(round_seconds=x),
    "reply_share": lambda x: LasgStrategy(reply_share=x),
    "wait_seconds": lambda x: LasgStrategy(wait_seconds=x),
    "fraction_fit": lambda x: LegacyLasgStrategy(fraction_fit=x),
    "legacy wait_seconds": lambda x: LegacyLasgStrategy(wait_seconds=x),
    "error of ECSQ": lambda x: ECSQ(error=x),
    "bits of ECSQ": lambda x: ECSQ(bits=x),
    "LazyFedAvg": lambda x: LazyFedAvg(x),
    "LegacyLazyFedAvg": lambda x: LegacyLazyFedAvg(fraction_fit=x),
}
"""Options that 0.5 suits."""

GROWTH: dict[str, Make] = {"growth": lambda x: BatchSchedule(4, growth=x)}

WHOLE: dict[str, Make] = {
    "d_max": lambda n: WK2(d_max=n),
    "max_delay": lambda n: WK2(max_delay=n),
    "max_delay of WK1": lambda n: WK1(d_max=1, max_delay=n),
    "seed": lambda n: LasgConfig(seed=n),
    "bits of QSGD": lambda n: QSGD(bits=n),
    "bucket": lambda n: QSGD(bucket=n),
    "bits of Uniform": lambda n: Uniform(bits=n),
    "bits of TopKQSGD": lambda n: TopKQSGD(bits=n),
    "k of TopK": lambda n: TopK(k=n),
    "k of RandK": lambda n: RandK(k=n),
    "rounds": lambda n: Cosine(0.1, rounds=n),
    "steps": lambda n: LocalSteps(ORACLE, n, 0.1),
    "initial": lambda n: BatchSchedule(n),
    "key": lambda n: LasgWorker(ORACLE, n),
    "evaluate_every": lambda n: LasgStrategy(evaluate_every=n),
    "window": lambda n: PSE(window=n),
    "LazyFedAvg's nodes": lambda n: LazyFedAvg(min_train_nodes=n),
    "LegacyLazyFedAvg's clients": lambda n: LegacyLazyFedAvg(min_fit_clients=n),
    "leave_after": lambda n: LasgStrategy(leave_after=n),
    "fail_limit": lambda n: LasgStrategy(fail_limit=n),
    "min_train_nodes": lambda n: LasgStrategy(min_train_nodes=n),
    "min_evaluate_nodes": lambda n: LasgStrategy(min_evaluate_nodes=n),
    "min_available_nodes": lambda n: LasgStrategy(min_available_nodes=n),
    "min_fit_clients": lambda n: LegacyLasgStrategy(min_fit_clients=n),
    "min_evaluate_clients": lambda n: LegacyLasgStrategy(min_evaluate_clients=n),
    "min_available_clients": lambda n: LegacyLasgStrategy(min_available_clients=n),
}
"""Options that 3 suits."""

REALS: tuple[Callable[[float], Any], ...] = (
    float,
    Fraction,
    np.float16,
    np.float32,
    np.float64,
    np.longdouble,
)
INTEGERS = (int, np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64)
NO_REALS = [nan, inf, -inf, -1.0, -(10**400), True, None, "0.5", [0.5], 0.5j]
NO_INTEGERS = [-1, 3.0, np.float64(3), True, "3", [3], nan, Fraction(7, 2)]
MAY_BE_NONE = {
    *("c of WK2", "c of LAG", "c of PSE", "smoothness", "norm_bound"),
    *("round_seconds", "wait_seconds", "bits of ECSQ"),
}
OBJECTS = (Rule, SGD, Adam, Constant, Cosine, Exponential, Decreasing, TopK, RandK)


def _same(made: Any, plain: Any) -> bool:
    """Whether two objects are equal, and saved alike."""
    if isinstance(plain, LasgConfig):
        return bool(made.fingerprint() == plain.fingerprint())
    if isinstance(plain, OBJECTS):
        return bool(made == plain) and repr(made) == repr(plain)
    return True


@pytest.mark.parametrize("kind", REALS)
@pytest.mark.parametrize("name", REAL)
def test_any_real_number_is_a_number(name: str, kind: Any) -> None:
    assert _same(REAL[name](kind(0.5)), REAL[name](0.5))


@pytest.mark.parametrize("bad", NO_REALS, ids=repr)
@pytest.mark.parametrize("name", [*REAL, *GROWTH])
def test_what_is_no_number_in_range_is_refused_at_construction(
    name: str, bad: Any
) -> None:
    if bad is None and name in MAY_BE_NONE:
        return
    if name == "smoothness" and isinstance(bad, list):
        return  # by worker
    with pytest.raises(ValueError, match=r"must|bad|unknown"):
        {**REAL, **GROWTH}[name](bad)


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("name", WHOLE)
def test_any_whole_number_is_an_integer(name: str, kind: Any) -> None:
    assert _same(WHOLE[name](kind(3)), WHOLE[name](3))


@pytest.mark.parametrize("bad", NO_INTEGERS, ids=repr)
@pytest.mark.parametrize("name", WHOLE)
def test_what_is_no_integer_in_range_is_refused_at_construction(
    name: str, bad: Any
) -> None:
    with pytest.raises(ValueError, match="must be an integer"):
        WHOLE[name](bad)


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(
    name=st.sampled_from([*REAL, *GROWTH]),
    value=st.one_of(
        st.floats(),
        st.fractions(),
        st.integers(),
        st.floats(width=32).map(np.float32),
        st.sampled_from([5e-324, 1e-200, 1e200, 1.7e308]),
    ),
)
def test_any_number_makes_an_object_or_a_value_error(name: str, value: Any) -> None:
    try:
        made = {**REAL, **GROWTH}[name](value)
    except ValueError:
        return
    if isinstance(made, LasgConfig):
        json.dumps(made.fingerprint())
        LasgServer(np.zeros(2), made).open_round([0])


def test_a_rule_with_numpy_numbers_travels() -> None:
    rule = WK2(c=np.float32(1), d_max=np.int64(4))  # type: ignore[arg-type]
    config = LasgConfig(rule, seed=np.uint64(7), step=np.float32(0.5))  # type: ignore[arg-type]
    ((_, request),) = LasgServer(np.zeros(2), config).open_round([0])
    assert settings_from(settings_text(request.settings)) == config.settings
    assert rule_from(spec_of(rule)) == rule


def test_keys_may_be_an_array() -> None:
    class Slope(Oracle):
        num_examples = 1

        def draw(self, rng: np.random.Generator) -> None:
            return None

        def gradient(self, theta: F32, batch: None) -> F32:
            return np.ones(1, np.float32)

    result = simulate(
        [Slope(), Slope()],
        np.zeros(1),
        rounds=np.int64(2),  # type: ignore[arg-type]
        keys=np.arange(2),  # type: ignore[arg-type]
    )
    assert [worker.key for worker in result.workers] == [0, 1]
    for bad in ([0.0, 1.0], ["0", "1"], [-1, 0], [0, U64]):
        with pytest.raises(ValueError, match="a key must be an integer"):
            simulate([Slope(), Slope()], np.zeros(1), rounds=1, keys=bad)  # type: ignore[arg-type]


def _context(**config: Any) -> Context:
    return Context(1, 5, config, RecordDict(), {})


@pytest.mark.parametrize(
    ("given", "key"),
    [(3, 3), ("3", 3), ("007", 7), (str(U64 - 1), U64 - 1), (0, 0)],
)
def test_a_partition_id_is_a_whole_number(given: Any, key: int) -> None:
    assert worker_key(_context(**{"partition-id": given})) == key


NO_KEYS: list[Any] = ["1_0", "٣", " 3", "+3", "-1", "3.0", "", "x", "9" * 5000]
NO_KEYS += [inf, nan, 3.0, True, b"3", -1, U64]


@pytest.mark.parametrize("given", NO_KEYS, ids=range(len(NO_KEYS)))
def test_what_is_no_partition_id_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="partition-id must be an integer") as caught:
        worker_key(_context(**{"partition-id": given}))
    assert len(str(caught.value)) < 6000


@pytest.mark.parametrize("given", ["32", -1, True, inf, nan])
def test_a_bad_threshold_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="lasg-state-threshold-mib must"):
        ContextStore(_context(**{"lasg-state-threshold-mib": given}), 0)
