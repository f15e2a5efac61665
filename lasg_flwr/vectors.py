"""Flat vectors: squared norms, finiteness, and read-only copies."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_BLOCK = 1 << 16
_DOT = 1 << 13
"""Longest dot product. Of longer ones BLAS libraries wake their own threads, which
then spin beside PyTorch's and cost a small network more than its gradients."""


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
        return _square((a if b is None else a - b).astype(np.float64))
    total = 0.0
    for start in range(0, a.size, _BLOCK):
        block = a[start : start + _BLOCK]
        if b is not None:
            block = block - b[start : start + _BLOCK]
        wide = block.astype(np.float64)
        for at in range(0, wide.size, _DOT):
            total += _square(wide[at : at + _DOT])
    return total


def _square(x: F64) -> float:
    return float(x.dot(x))


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


def is_finite(x: NDArray[Any]) -> bool:
    """Return whether every element of `x` is finite.

    Examples
    --------
    >>> is_finite(np.float32([1, np.inf]))
    False
    """
    return int(np.count_nonzero(np.isfinite(x))) == x.size


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
