"""Vectors of bytes as Flower moves them: NumPy's form, without NumPy's copies."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from flwr.app import Array
from flwr.common import ndarrays_to_parameters
from numpy.typing import NDArray

from lasg_flwr.codecs import Dense, wire
from lasg_flwr.errors import WireError
from lasg_flwr.flower import packed

pytestmark = pytest.mark.flower
ARRAYS: list[NDArray[Any]] = [
    np.arange(5, dtype=np.uint8),
    np.zeros(0, np.uint8),
    np.array(3.0, np.float32),
    np.arange(6, dtype=">f8").reshape(2, 3),
    np.ones((2, 3), np.float16)[:, ::2],
    np.array([True, False]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_arrays_are_serialised_as_numpy_does(array: NDArray[Any]) -> None:
    file = BytesIO()
    np.save(file, array, allow_pickle=False)
    assert packed.saved(array) == file.getvalue()
    assert packed.as_array(array) == Array(array)
    assert np.array_equal(packed.array_of(packed.as_array(array)), array)


def test_parameters_come_back() -> None:
    for arrays in ([], ARRAYS[:1], ARRAYS):
        made = packed.parameters_of(arrays)
        assert made == ndarrays_to_parameters(arrays)
        for back, array in zip(packed.arrays_of(made), arrays, strict=True):
            assert np.array_equal(back, array)
            assert back.dtype == array.dtype


def test_a_large_payload_is_not_copied_to_be_sent_or_read() -> None:
    payload = wire.encode_framed(Dense(), np.arange(1 << 20, dtype=np.float32))
    assert isinstance(payload, memoryview)
    data = packed.saved(np.frombuffer(payload, np.uint8))
    assert data is payload.obj
    assert np.shares_memory(packed.read_array(data), np.frombuffer(payload, np.uint8))
    assert not packed.read_array(data).flags.writeable


def test_a_part_of_a_large_payload_is_only_that_part() -> None:
    whole = np.frombuffer(
        wire.encode_framed(Dense(), np.arange(1 << 20, dtype=np.float32)), np.uint8
    )
    for part in (whole[:100], whole[100:], whole[::2], whole[:-1]):
        file = BytesIO()
        np.save(file, part)
        assert packed.saved(part) == file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"abc",
        packed.saved(np.arange(5, dtype=np.uint8))[:-1],
        packed.saved(np.arange(5, dtype=np.uint8)) + b"x",
        packed.saved(np.arange(5, dtype=np.int8)),
        packed.saved(np.zeros((5, 1), np.uint8)),
    ],
)
def test_anything_but_a_vector_of_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        packed.read(data)
