"""Flat vectors: squared norms, finiteness, and read-only copies."""

from math import inf, isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_BLOCK = 1 << 16
_DOT = 1 << 13
"""Longest dot product. Of longer ones BLAS libraries wake their own threads, which
then spin beside PyTorch's and cost a small network more than its gradients."""

_SMALL_SQUARE = 2.0**-100
"""A mean square above this one lost nothing worth naming to underflow."""


def squared_distance(a: F32 | F64, b: F32 | F64 | None = None) -> float:
    """Return ‖a − b‖² (or ‖a‖²), accumulated in float64.

    The difference is taken in the inputs' own precision, as the vectors are what
    both sides hold; the sum of squares runs block by block, so that no float64 copy
    of a large vector is made.

    Parameters
    ----------
    a, b : ndarray, shape (p,)
        Vectors of equal length; `b` may be left out.

    Returns
    -------
    float
        The squared Euclidean norm of the difference.

    Examples
    --------
    >>> squared_distance(np.float32([3, 0]), np.float32([0, 4]))
    25.0
    """
    if a.size <= _DOT:
        x = (a if b is None else a - b).astype(np.float64)
        return float(x.dot(x))
    total = 0.0
    for start in range(0, a.size, _BLOCK):
        block = a[start : start + _BLOCK]
        if b is not None:
            block = block - b[start : start + _BLOCK]
        wide = block.astype(np.float64)
        for at in range(0, wide.size, _DOT):
            part = wide[at : at + _DOT]
            total += float(part.dot(part))
    return total


def inner_product(a: F32, b: F32) -> float:
    """Return ⟨a, b⟩, accumulated in float64.

    Examples
    --------
    >>> inner_product(np.float32([1, 2]), np.float32([3, 4]))
    11.0
    """
    parts = [slice(start, start + _DOT) for start in range(0, a.size, _DOT)]
    return sum(
        float(a[at].astype(np.float64).dot(b[at].astype(np.float64))) for at in parts
    )


def rough_square(x: F32 | F64) -> float:
    """Return about ‖x‖², summed in the vector's own precision; it is read only once.

    It is finite only if all elements are, and then none is larger than its root; it
    is infinite also where squares overflow, and too small where they underflow.

    Examples
    --------
    >>> rough_square(np.float32([3, 4])), rough_square(np.float32([1e30, 0]))
    (25.0, inf)
    """
    whole = x.size - x.size % _DOT
    with np.errstate(over="ignore", invalid="ignore"):
        if not whole:
            return float(x.dot(x))
        rest = float(x[whole:].dot(x[whole:]))
        return rest + float(_row_squares(x[:whole].reshape(-1, _DOT)).sum())


def _row_squares(rows: NDArray[Any]) -> F64:
    if hasattr(np, "vecdot"):  # NumPy 2
        squares: F64 = np.vecdot(rows, rows).astype(np.float64)
        return squares
    return np.array([row.dot(row) for row in rows], np.float64)


def is_finite(x: NDArray[Any]) -> bool:
    """Return whether every element of `x` is finite.

    Examples
    --------
    >>> is_finite(np.float32([1, np.inf]))
    False
    """
    if x.size > _DOT and x.ndim == 1 and isfinite(rough_square(x)):
        return True
    return int(np.count_nonzero(np.isfinite(x))) == x.size


def is_within(x: F32, largest: float) -> bool:
    """Return whether |x_i| <= `largest` for every i; False if one is NaN.

    Examples
    --------
    >>> is_within(np.float32([1, -3]), 3.0), is_within(np.float32([np.nan]), 3.0)
    (True, False)
    """
    if x.ndim == 1 and rough_square(x) < largest * largest / 2:
        return True
    return largest_magnitude(x) <= largest


def approximate_norm(x: F32) -> float:
    """Return ‖x‖, in float32 and in one pass where that neither over- nor underflows.

    Examples
    --------
    >>> approximate_norm(np.float32([3, 4])), approximate_norm(np.float32([1e-30, 0]))
    (5.0, 1.0000000031710769e-30)
    """
    rough = rough_square(x)
    least = x.size * _SMALL_SQUARE
    return sqrt(rough if least <= rough < inf else squared_distance(x))


def largest_magnitude(x: NDArray[Any]) -> float:
    """Return max |x_i|, 0 of nothing, NaN if one is.

    Examples
    --------
    >>> largest_magnitude(np.float32([1, -3]))
    3.0
    """
    return max(float(np.max(x)), -float(np.min(x))) if x.size else 0.0


def frozen(x: NDArray[Any]) -> NDArray[Any]:
    """Mark `x` read-only and return it: vectors are shared, never written to."""
    x.flags.writeable = False
    return x


def finite_vector(values: NDArray[Any], name: str, least: int = 0) -> F32:
    """Return a read-only float32 copy; ValueError unless it is a finite vector."""
    vector = np.array(values, dtype=np.float32)
    if vector.ndim != 1 or vector.size < least:
        remedy = f": flatten it with {name}.ravel()" if vector.ndim != 1 else ""
        raise ValueError(
            f"{name} must be a finite vector of length >= {least}, got shape "
            f"{vector.shape}{remedy}"
        )
    if not is_finite(vector):
        bad = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise ValueError(
            f"{name} must be a finite vector of float32, got {vector[bad]} at "
            f"position {bad}: start from finite values"
        )
    return frozen(vector)


NO_BUFFERS: F32 = frozen(np.zeros(0, np.float32))
