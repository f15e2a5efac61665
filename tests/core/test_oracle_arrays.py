"""What an oracle returns: copied, checked, whatever its memory looks like."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lasg_flwr import Oracle, simulate
from lasg_flwr.layout import Layout
from lasg_flwr.oracles.base import taken
from lasg_flwr.vectors import F32

QUICK = settings(derandomize=True, database=None, deadline=None, max_examples=150)


class Fresh(Oracle):
    """Half the squared distance from a centre."""

    num_examples = 1
    size = 2

    def __init__(self, centre: float) -> None:
        self.centre = np.float32(centre)

    def draw(self, rng: np.random.Generator) -> None:
        return None

    def gradient(self, theta: F32, batch: None) -> F32:
        return np.asarray(theta - self.centre, np.float32)


class Filling(Fresh):
    """The same, filled into one array every time."""

    def __init__(self, centre: float) -> None:
        super().__init__(centre)
        self.kept = np.zeros(2, np.float32)

    def gradient(self, theta: F32, batch: None) -> F32:
        np.subtract(theta, self.centre, out=self.kept)
        return self.kept


class Viewing(Filling):
    """The same, as a read-only view of that array."""

    def gradient(self, theta: F32, batch: None) -> F32:
        view = super().gradient(theta, batch).view()
        view.flags.writeable = False
        return view


class Swapped(Fresh):
    """The same, in the other byte order and with gaps."""

    def gradient(self, theta: F32, batch: None) -> F32:
        wide = np.zeros(4, np.dtype(np.float32).newbyteorder())
        wide[::2] = super().gradient(theta, batch)
        return wide[::2]


@pytest.mark.parametrize("kind", [Filling, Viewing, Swapped])
@pytest.mark.parametrize("memory", ["innovation", "gradient"])
@pytest.mark.parametrize("rule", ["sgd", "lag", "wk1", "wk2", "pse", "vr"])
def test_an_oracle_may_do_what_it_likes_with_its_array(
    rule: str, memory: Any, kind: type[Fresh]
) -> None:
    if rule == "vr":
        rule = "vr:growth=0"
    options: dict[str, Any] = {"rule": rule, "memory": memory, "step": 0.3}
    wanted = simulate([Fresh(1), Fresh(3)], np.zeros(2), rounds=40, **options)
    found = simulate([kind(1), kind(3)], np.zeros(2), rounds=40, **options)
    assert found.theta.tobytes() == wanted.theta.tobytes()
    assert found.ledger == wanted.ledger


def test_the_optimum_is_found_with_one_array() -> None:
    for rule in ("wk2", "lag", "pse"):
        workers = [Filling(c) for c in (0.0, 2.0, 4.0)]
        result = simulate(workers, np.zeros(2), rounds=300, rule=rule, step=0.2)
        np.testing.assert_allclose(result.theta, 2.0, rtol=1e-3)


@st.composite
def float32_arrays(draw: Any) -> NDArray[Any]:
    """The numbers 0 to 5 as float32, laid out in any way."""
    dtype = np.dtype(draw(st.sampled_from(["<f4", ">f4"])))
    step = draw(st.sampled_from([1, 2, -1]))
    gap = np.zeros(12, dtype)
    view = gap[:: abs(step)][:6][:: 1 if step > 0 else -1]
    view[:] = np.arange(6)
    if draw(st.booleans()):
        view.flags.writeable = False
    return view


@QUICK
@given(float32_arrays())
def test_any_layout_of_float32_is_taken_as_its_values(array: NDArray[Any]) -> None:
    theta = np.zeros(6, np.float32)
    got = taken(array, theta, 0)
    assert got.dtype == np.float32
    assert got.dtype.isnative
    assert got.flags.c_contiguous
    assert not got.flags.writeable
    assert got.tolist() == [0, 1, 2, 3, 4, 5]
    assert not np.shares_memory(got, array) or not array.flags.writeable
    assert taken(got, theta, 0) is got


@pytest.mark.parametrize(
    "wrong",
    [
        [0.0] * 6,
        None,
        np.zeros(6),
        np.zeros(6, np.float16),
        np.zeros((6, 1), np.float32),
        np.zeros(5, np.float32),
        np.zeros(6, np.complex64),
        np.zeros(6, object),
        np.ma.masked_array(np.zeros(6, np.float32), np.eye(6, dtype=bool)[0]),
        np.float32(0),
    ],
    ids=repr,
)
def test_what_is_no_gradient_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="the oracle of worker 7 returned"):
        taken(wrong, np.zeros(6, np.float32), 7)


DTYPES = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]
INTEGERS = ["<i4", ">i8", "|u1", "|b1"]


@QUICK
@given(
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=1, max_size=4),
    integer=st.sampled_from(INTEGERS),
    order=st.sampled_from(["C", "F"]),
    reverse=st.booleans(),
)
def test_a_layout_gives_back_what_any_model_holds(
    dtypes: list[str], integer: str, order: Any, reverse: bool
) -> None:
    named: dict[str, NDArray[Any]] = {}
    for i, dtype in enumerate(dtypes):
        array = np.arange(6).reshape(2, 3).astype(dtype, order=order)
        named[f"p{i}"] = array[::-1] if reverse else array
    named["n"] = np.array([[1, 0], [0, 1]]).astype(integer, order=order)
    layout = Layout.of(named)
    again = Layout.from_json(layout.to_json())
    assert again == layout
    theta = again.flatten(named, "parameter")
    assert theta.dtype == np.float32
    packed = layout.pack(theta, layout.flatten(named, "buffer"), layout.integers(named))
    found = again.unflatten(*again.split(packed))
    for name, array in named.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
