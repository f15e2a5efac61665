"""A range coder with a static model of order 0 (extra ``entropy``: constriction).

| offset | bytes | content |
|---|---|---|
| 0 | 2 | smallest code a, little-endian |
| 2 | 2 | largest code b |
| 4 | b − a + 1 | frequency of each code, one byte c: 0, or (8 + c mod 8)·2^⌊c/8⌋ |
| … | 4 each | words of the range coder, little-endian |

Frequencies are integers, exact in float64, so that both sides build the same model:
constriction's ``Categorical(frequency / sum, perfect=False)``, for its
``queue.RangeEncoder`` of 32-bit words. A stream of a single code, a = b, ends after
the table.
"""

import struct
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import WireError
from .kernels import U16

_HEAD = struct.Struct("<HH")
_TOP = 255
available = find_spec("constriction") is not None
"""Whether the extra ``entropy`` is installed."""


def encode(codes: U16) -> bytes:
    """Encode codes.

    Raises
    ------
    ImportError
        If constriction is not installed.
    """
    if not available:
        raise ImportError(
            "entropy=range needs constriction: pip install constriction, or "
            "choose entropy=zstd"
        )
    if codes.size == 0:
        return _HEAD.pack(0, 0) + b"\0"
    low, high = int(codes.min()), int(codes.max())
    symbols = codes.astype(np.int32)
    symbols -= low
    table = small_floats(np.bincount(symbols))
    head = _HEAD.pack(low, high) + table.tobytes()
    if low == high:
        return head
    import constriction

    coder = constriction.stream.queue.RangeEncoder()
    coder.encode(symbols, _model(table))
    words: bytes = coder.get_compressed().astype("<u4").tobytes()
    return head + words


def decode(data: memoryview, size: int, width: int) -> U16:
    """Decode `size` codes below 2^width.

    Raises
    ------
    WireError
        If `data` is not of this form, or constriction is not installed.
    """
    low, high = _HEAD.unpack_from(data) if len(data) >= _HEAD.size else (1, 0)
    start = _HEAD.size + high - low + 1
    if not low <= high < 1 << width or len(data) < start or (len(data) - start) % 4:
        raise WireError(
            f"a range-coded stream of {len(data)} bytes with codes {low} to {high} "
            f"does not fit codes of {width} bits"
        )
    if low == high:
        return np.full(size, low, np.uint16)
    table = np.frombuffer(data[_HEAD.size : start], np.uint8)
    if np.count_nonzero(table) < 2:
        raise WireError("a range-coded stream whose model has fewer than two codes")
    if not available:
        raise WireError(
            "the levels of this payload are range-coded, which this reader cannot "
            "decode: pip install constriction, or let senders use entropy=zstd"
        )
    import constriction

    words = np.frombuffer(data[start:], "<u4").astype(np.uint32)
    try:
        coder = constriction.stream.queue.RangeDecoder(words)
        symbols: NDArray[np.int32] = coder.decode(_model(table), size)
    except (AssertionError, ValueError, RuntimeError) as error:
        raise WireError(f"a damaged range-coded stream: {error}") from None
    codes: U16 = (symbols + low).astype(np.uint16)
    return codes


def small_floats(counts: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Round counts to one byte each: 3 bits of mantissa, 5 of exponent.

    Examples
    --------
    >>> table = small_floats(np.array([0, 1, 1000]))
    >>> frequencies(table).tolist()
    [0.0, 9.0, 8192.0]
    """
    _, exponent = np.frexp(counts.astype(np.float64))
    exponent = np.clip(exponent - 1, 0, 31)
    mantissa = np.rint(counts / 2.0**exponent * 8).astype(np.int64) - 8
    codes = np.where(counts == 0, 0, np.clip(8 * exponent + mantissa, 1, _TOP))
    return codes.astype(np.uint8)


def frequencies(table: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Undo `small_floats`, in units of an eighth."""
    code = table.astype(np.int64)
    return np.where(code == 0, 0, (8 + code % 8) << (code // 8)).astype(np.float64)


def _model(table: NDArray[np.uint8]) -> Any:
    import constriction

    frequency = frequencies(table)
    share = frequency / frequency.sum()
    return constriction.stream.model.Categorical(share, perfect=False)
