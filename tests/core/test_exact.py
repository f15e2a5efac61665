"""Sums without rounding: against fractions, whatever comes and goes."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lasg_flwr.memory.exact import BLOCK, MOST, add_exactly
from lasg_flwr.vectors import F64

VALUE = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(-4, 4, width=32),
    st.sampled_from([2.0**100, -(2.0**100), 2.0**-149, 1e20, 0.25]),
)
WEIGHT = st.one_of(st.just(1), st.integers(1, 2**40))
TERM = st.tuples(st.tuples(VALUE, VALUE), WEIGHT, st.booleans())


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(st.lists(TERM, min_size=1, max_size=25))
def test_the_sum_of_any_terms_is_exact(
    terms: list[tuple[tuple[float, float], int, bool]],
) -> None:
    parts: list[F64] = [np.zeros(2)]
    expected = [Fraction(0), Fraction(0)]
    for values, weight, goes_again in terms:
        for sign in (1, -1) if goes_again else (1,):
            x = np.array(values, np.float32) * np.float32(sign)
            add_exactly(parts, x, float(weight))
            for i in range(2):
                expected[i] += Fraction(float(x[i])) * weight
    for i in range(2):
        assert sum(Fraction(float(part[i])) for part in parts) == expected[i]
        error = abs(Fraction(float(parts[0][i])) - expected[i])
        assert error <= abs(expected[i]) / 2**52
    assert len(parts) <= MOST


def test_what_came_and_went_leaves_one_component() -> None:
    rng = np.random.default_rng(0)
    size = 2 * BLOCK + 3
    small = rng.standard_normal(size).astype(np.float32)
    spike = (1e20 * rng.standard_normal(size)).astype(np.float32)
    parts: list[F64] = [np.zeros(size)]
    add_exactly(parts, small)
    alone = parts[0].copy()
    add_exactly(parts, spike, 12345.0)
    assert len(parts) > 1
    add_exactly(parts, -spike, 12345.0)
    assert len(parts) == 1
    assert parts[0].tobytes() == alone.tobytes()


def test_blocks_need_not_have_equally_many_components() -> None:
    parts: list[F64] = [np.zeros(2 * BLOCK)]
    x = np.zeros(2 * BLOCK, np.float32)
    x[0] = 0.25
    add_exactly(parts, x)
    x[0] = 1e20
    add_exactly(parts, x)
    x[0], x[-1] = 0, 1
    add_exactly(parts, x)
    assert (parts[0][0], parts[1][0], parts[0][-1]) == (np.float32(1e20), 0.25, 1)
