"""Levels of a quantizer: norms, rounding, and the packed codes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import WireError
from ...vectors import F32, F64
from . import kernels, threads
from .backend import kernels_for
from .kernels import U8, U16

MAX_FLOAT = float(np.finfo(np.float32).max)


def bucket_norms(x: F32, bucket: int, norm: str) -> F32:
    """Return ‖x_b‖ of each bucket, taken in float64 and rounded to float32.

    An ℓ2 norm above the largest float32 is that largest float32: it still bounds
    every coordinate, which is all that unbiased rounding needs.

    Raises
    ------
    ValueError
        If x is not finite.
    """
    count = -(-x.size // bucket)
    norms = np.zeros(count, np.float32)
    if norm == "max":
        fast, full = kernels_for(x.size), max(1, threads.BLOCK // bucket)

        def some(first: int, last: int) -> None:
            part = x[first * bucket : last * bucket]
            fast.max_norms(part, bucket, norms[first:last])

        parts = threads.blocks(count, full * 8)
        threads.in_threads(lambda i: some(*parts[i]), len(parts))
    else:
        squares = x.astype(np.float64)
        np.square(squares, out=squares)
        full = x.size // bucket
        norms[:full] = _clipped_root(squares[: full * bucket].reshape(full, bucket))
        if full < count:
            norms[full:] = _clipped_root(squares[full * bucket :].reshape(1, -1))
    check_finite(norms)
    return norms


def _clipped_root(squares: F64) -> F64:
    root = np.sqrt(row_sums(squares))
    return (
        np.where(root > MAX_FLOAT, MAX_FLOAT, root) if np.all(root < np.inf) else root
    )


def row_sums(table: F64) -> F64:
    """Return the sum of each row by halving, in an order that no machine changes.

    `table` is overwritten. ``np.sum`` and BLAS add in an order of their own.

    Examples
    --------
    >>> row_sums(np.array([[1.0, 2.0, 3.0]])).tolist()
    [6.0]
    """
    width = table.shape[1]
    while width > 1:
        half = (width + 1) // 2
        table[:, : width - half] += table[:, half:width]
        width = half
    return table[:, 0] if width else np.zeros(len(table))


def check_finite(values: NDArray[Any]) -> None:
    """Raise ValueError if there is NaN or infinity among `values`."""
    if not np.all(np.isfinite(values)):
        raise ValueError(
            "the vector to encode holds NaN or infinity: check the data, or lower the "
            "learning rate"
        )


def packed_bytes(size: int, width: int) -> int:
    """Return how many bytes `size` codes of `width` bits take."""
    return (size * width + 7) // 8


def quantize(
    x: F32, norms: F32, bucket: int, levels: int, width: int, key: int | None
) -> U8:
    """Return the packed codes s + l_i, |l_i| <= s = `levels`.

    With a `key`, l is s·x/‖x_b‖ rounded up or down at random, unbiased; without, it
    is rounded to the nearest, halves away from zero.
    """
    packed = np.zeros(packed_bytes(x.size, width), np.uint8)
    loops = kernels_for(x.size)

    def block(start: int, stop: int) -> None:
        codes: U16 = np.empty(stop - start, np.uint16)
        loops.quantize(x, start, stop, bucket, norms, levels, key, codes)
        first = start * width // 8
        loops.pack(
            codes, width, packed[first : first + packed_bytes(codes.size, width)]
        )

    threads.over_blocks(block, x.size)
    return packed


def dequantize(
    packed: U8, size: int, norms: F32, bucket: int, levels: int, width: int
) -> F32:
    """Return float32(‖x_b‖·l_i / s); the product is exact in float64.

    Raises
    ------
    WireError
        If a code stands for no level.
    """
    out = np.empty(size, np.float32)
    loops = kernels_for(size)
    bad: list[int] = []

    def block(start: int, stop: int) -> None:
        codes: U16 = np.empty(stop - start, np.uint16)
        first = start * width // 8
        part = packed[first : first + packed_bytes(codes.size, width)]
        loops.unpack(part, width, codes)
        if not loops.dequantize(codes, start, stop, bucket, norms, levels, out):
            bad.append(start)

    threads.over_blocks(block, size)
    if bad:
        raise WireError(
            f"a level near coordinate {min(bad)} is above the {levels} that there are: "
            "the payload was not made by this codec"
        )
    return out


def pack_codes(codes: U16, width: int) -> U8:
    """Return packed codes."""
    packed = np.zeros(packed_bytes(codes.size, width), np.uint8)
    kernels.pack(codes, width, packed)
    return packed


def unpack_codes(packed: U8, size: int, width: int) -> U16:
    """Return `size` codes."""
    codes: U16 = np.empty(size, np.uint16)
    kernels.unpack(packed, width, codes)
    return codes
