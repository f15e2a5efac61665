"""Weighted sums: several vectors in one pass give the bits of one at a time."""

import numpy as np
import pytest

from lasg_flwr.memory import weighted
from lasg_flwr.memory.weighted import WeightedSum


@pytest.mark.parametrize("size", [1, 1000, 2 * weighted.BLOCK + 3])
@pytest.mark.parametrize("terms", [0, 1, 7, 2 * weighted.MOST_WAITING + 1])
def test_the_sum_is_that_of_one_term_after_the_other(size: int, terms: int) -> None:
    rng = np.random.default_rng(size + terms)
    expected, found = np.zeros(size), WeightedSum(size)
    for i in range(terms):
        x = rng.standard_normal(size, np.float32) * np.float32(10.0 ** (i % 9))
        weight = float(rng.choice([1.0, 3.0, 0.1]))
        expected += x.astype(np.float64) * weight
        found.add(x, weight)
        assert found
    assert bool(found) == bool(terms)
    assert found.total().tobytes() == expected.tobytes()


def test_negative_zeros_add_up_as_before() -> None:
    found = WeightedSum(1)
    found.add(np.array([-0.0], np.float32), 1.0)
    assert not np.signbit(found.total()[0])
