"""Vectors of bytes <-> NumPy's serialised form, as Flower moves arrays.

NumPy's own `save` and `load` copy a vector two or three times each; a message carries
nothing but one vector, and its header is always of one form.
"""

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import numpy as np
from flwr.app import Array
from flwr.common import Parameters, parameters_to_ndarrays
from flwr.common.constant import SType
from numpy.typing import NDArray

from ..codecs.coding.large import frame_of, joined
from ..errors import WireError


def saved(array: NDArray[Any]) -> bytes:
    """Return what NumPy's `save` makes of an array without objects, in one copy.

    Examples
    --------
    >>> x, file = np.float32([[1, 2]]), BytesIO()
    >>> np.save(file, x)
    >>> saved(x) == file.getvalue()
    True
    """
    if array.dtype == np.uint8 and isinstance(array.base, memoryview):
        frame = frame_of(array.base)
        if frame is not None and array.size == len(array.base):
            return frame
    plain = np.ascontiguousarray(array)
    body = plain.reshape(-1).view(np.uint8).data
    return joined((_head(plain.dtype, array.shape), body))


def _head(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    file = BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


def as_array(array: NDArray[Any]) -> Array:
    """Return Flower's `Array` of an array, as its constructor makes it."""
    shape = tuple(array.shape)
    return Array(
        dtype=str(array.dtype), shape=shape, stype=SType.NUMPY, data=saved(array)
    )


def parameters_of(arrays: Iterable[NDArray[Any]]) -> Parameters:
    """Return arrays as Flower's older API moves them."""
    return Parameters([saved(array) for array in arrays], SType.NUMPY)


def arrays_of(parameters: Parameters) -> list[NDArray[Any]]:
    """Undo `parameters_of`; a vector of bytes is a read-only view."""
    try:
        return [read_array(data) for data in parameters.tensors]
    except WireError:  # arrays of other kinds
        return parameters_to_ndarrays(parameters)


def array_of(array: Array) -> NDArray[Any]:
    """Return what Flower's `Array` holds; a vector of bytes is a read-only view."""
    try:
        return read_array(array.data) if array.stype == SType.NUMPY else array.numpy()
    except WireError:
        return array.numpy()


def read(data: bytes) -> memoryview:
    """Return the bytes of a vector, as NumPy's `save` wrote them, without a copy.

    The header is compared with what is there, so that no memory is taken on its word.

    Raises
    ------
    WireError
        If it is no vector of bytes.
    """
    file = BytesIO(data)
    try:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # whatever NumPy's parser raises
        raise WireError(f"malformed: a serialised array: {error}") from None
    start = file.tell()
    if dtype != np.uint8 or shape != (len(data) - start,):
        raise WireError("malformed: a serialised array is no vector of bytes")
    return memoryview(data)[start:]


def read_array(data: bytes) -> NDArray[np.uint8]:
    """Return what `read` does, as a read-only array."""
    return np.frombuffer(read(data), np.uint8)
