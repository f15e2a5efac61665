"""Growing minibatches: how many, and where the iteration comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Any, ClassVar

import numpy as np
import pytest

from lasg_flwr import LasgError, Oracle, simulate
from lasg_flwr.oracles.batches import BatchSchedule, ScheduledBatches
from lasg_flwr.oracles.local import LocalSteps
from lasg_flwr.vectors import F32
from tests.problems.least_squares import least_squares


@dataclass
class Counting(Oracle):
    """An oracle that notes how many examples were drawn."""

    examples: int = 50
    drawn: list[int] = field(default_factory=list)

    @property
    def num_examples(self) -> int:
        return self.examples

    def draw(self, rng: np.random.Generator) -> Any:
        return self.draw_batch(rng, 1)

    def draw_batch(self, rng: np.random.Generator, size: int) -> Any:
        self.drawn.append(size)
        return rng.choice(self.examples, size, replace=False)

    def gradient(self, theta: F32, batch: Any) -> F32:
        return np.full_like(theta, 0.125)


@pytest.mark.parametrize("growth", [1.0, 1.03125, 1.5, 2.0, 1e300])
@pytest.mark.parametrize("initial", [1, 3, 64])
def test_the_size_is_the_floor_of_rho_to_the_t(growth: float, initial: int) -> None:
    schedule = BatchSchedule(initial, growth)
    for examples in (1, 2, 100, 60_000):
        for t in range(40):
            exact = floor(Fraction(growth) ** t * initial)
            assert schedule.size(t, examples) == min(exact, examples)


@pytest.mark.parametrize("growth", [1.0, 1 + 1e-15, 1.1, 1.7e308])
def test_no_iteration_overflows(growth: float) -> None:
    schedule = BatchSchedule(2, growth)
    for t in (10**4, 2**64, 2**80):
        size = schedule.size(t, 1000)
        assert size == (2 if growth == 1.0 else 1000) or t == 10**4
        assert 2 <= size <= 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1.1), "must be an integer >= 1, got 0"),
        ((2.5, 1.1), "must be an integer >= 1, got 2.5"),
        ((True, 1.1), "must be an integer >= 1, got True"),
        ((2, 0.99), "must be finite and >= 1, got 0.99"),
        ((2, float("nan")), "must be finite"),
        ((2, float("inf")), "must be finite"),
    ],
)
def test_bad_schedules_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchSchedule(*arguments)


def test_an_oracle_must_be_able_to_draw_any_number() -> None:
    with pytest.raises(TypeError, match="draw_batch"):
        ScheduledBatches(least_squares(1)[0], BatchSchedule(1, 1.1))


def test_a_draw_needs_the_iteration() -> None:
    growing = ScheduledBatches(Counting(), BatchSchedule(1, 2.0))
    growing.start_round(2)
    assert len(growing.draw(np.random.default_rng(0))) == 4
    with pytest.raises(LasgError, match="start_round"):
        growing.draw(np.random.default_rng(0))


@pytest.mark.parametrize("steps", [1, 3])
def test_the_iteration_is_counted_over_the_whole_run(steps: int) -> None:
    """Round k and local step h draw ⌊ρ^t b^(0)⌋ with t = kH + h, sampled or not."""
    oracles = [Counting(), Counting(examples=8)]
    schedule = BatchSchedule(2, 1.2)
    wrapped: list[Oracle] = [
        LocalSteps(ScheduledBatches(o, schedule), steps, 0.5) for o in oracles
    ]
    chosen = [(0, 1), (0,), (1,), (0, 1)]
    result = simulate(
        wrapped, np.zeros(2), rounds=4, rule="sgd", step=1.0, sample=chosen.__getitem__
    )
    for m, oracle in enumerate(oracles):
        rounds = [k for k in range(4) if m in chosen[k]]
        t = [k * steps + h for k in rounds for h in range(steps)]
        assert oracle.drawn == [schedule.size(i, oracle.examples) for i in t]
    assert oracles[1].drawn[-1] > oracles[1].drawn[0]
    assert result.ledger.gradient_evaluations == 6 * steps


def test_a_network_s_minibatches_grow_too() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    clients = pytest.importorskip("lasg_flwr.oracles.torch.oracle")
    data = torch.utils.data.TensorDataset(torch.eye(8), torch.arange(8) % 2)
    loss = torch.nn.functional.cross_entropy
    oracle = clients.TorchOracle(torch.nn.Linear(8, 2), loss, data, 2)
    growing = ScheduledBatches(oracle, BatchSchedule(3, 2.0))
    for t, size in enumerate((3, 6, 8)):
        growing.start_round(t)
        batch = growing.draw(np.random.default_rng(t))
        assert len(set(batch.indices)) == size
        assert np.abs(growing.gradient(oracle.theta(), batch)).max() > 0


def test_what_the_oracle_offers_is_offered_still() -> None:
    class Configured(Counting):
        size = 2
        seen: ClassVar[list[Any]] = []

        def configure(self, config: Mapping[str, Any]) -> None:
            self.seen.append(config)

    growing = ScheduledBatches(Configured(), BatchSchedule(1))
    assert growing.size == 2
    growing.configure({"epochs": 3})
    assert Configured.seen == [{"epochs": 3}]
    assert ScheduledBatches(Counting(), BatchSchedule(1)).size is None


def test_batches_grow_inside_local_steps_and_not_around_them() -> None:
    local = LocalSteps(Counting(), steps=3, learning_rate=0.1)
    with pytest.raises(TypeError, match="LocalSteps cannot draw minibatches"):
        ScheduledBatches(local, BatchSchedule(2))
