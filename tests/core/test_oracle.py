"""The base class of oracles: defaults, and members that nobody would ever call."""

from typing import Any

import numpy as np
import pytest

from lasg_flwr import LasgError, Oracle, simulate
from lasg_flwr.oracles import LocalSteps, ScheduledBatches
from lasg_flwr.oracles.base import overrides
from lasg_flwr.vectors import F32
from tests.problems.least_squares import least_squares


class Least(Oracle):
    """The three members that there must be."""

    def __init__(self) -> None:
        self.num_examples = 3  # type: ignore[misc]

    def draw(self, rng: np.random.Generator) -> Any:
        return None

    def gradient(self, theta: F32, batch: Any) -> F32:
        return theta - np.float32(1)


def test_three_members_are_enough() -> None:
    result = simulate([Least(), Least()], np.zeros(2), rounds=60, step=0.5)
    assert result.theta.round(3).tolist() == [1.0, 1.0]


def test_the_defaults() -> None:
    oracle = Least()
    assert (oracle.size, oracle.gradients_per_call) == (None, 1)
    assert (oracle.buffers(), oracle.metrics()) == (None, {})
    oracle.configure({"epochs": 3})
    oracle.start_round(3)
    oracle.load_buffers(np.zeros(0, np.float32))
    with pytest.raises(LasgError, match=r"Least cannot evaluate: give it evaluate"):
        oracle.evaluate(np.zeros(2, np.float32))
    with pytest.raises(TypeError, match="cannot draw minibatches"):
        oracle.draw_batch(np.random.default_rng(0), 2)
    assert not overrides(oracle, "evaluate")
    assert overrides(least_squares()[0], "evaluate")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("load_buffer", "load_buffers"),
        ("evalute", "evaluate"),
        ("gradients_per_cal", "gradients_per_call"),
        ("metric", "metrics"),
        ("start_rounds", "start_round"),
        ("draw_batches", "draw_batch"),
    ],
)
def test_a_misspelt_member_is_an_error(name: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf"Slip\.{name} is no member.*{meant!r}"):
        type("Slip", (Least,), {name: lambda self: None})


def test_members_with_names_of_their_own_are_fine() -> None:
    own = {"theta": lambda self: None, "buffer_names": (), "evaluate_on": len}
    assert type("Own", (Least,), own)().num_examples == 3


@pytest.mark.parametrize("bad", [object(), 3, {"num_examples": 3}])
def test_what_is_no_oracle_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"derive it from lasg_flwr\.Oracle"):
        simulate([bad], np.zeros(2), rounds=1)


def test_wrappers_hand_on_what_they_do_not_define() -> None:
    inner = least_squares()[0]
    local = LocalSteps(inner, 2, 0.1)
    assert local.evaluate(np.zeros(6, np.float32)) == inner.evaluate(
        np.zeros(6, np.float32)
    )
    assert local.x is inner.x
    with pytest.raises(TypeError, match="LeastSquares cannot draw minibatches"):
        ScheduledBatches(inner, None)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        local.nothing  # noqa: B018
