"""BatchNorm's statistics among a model's arrays, where their names do not say it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layout import Layout


def batch_norm_statistics(arrays: Sequence[NDArray[Any]]) -> list[str]:
    """Return the positions of what looks like running means and variances.

    A PyTorch ``state_dict`` has them as two vectors of one length right before a
    scalar integer, ``num_batches_tracked``; the weights of a new Keras model as the
    last two of four vectors of one length: ones, zeros, zeros, ones.

    Examples
    --------
    >>> weight, bias, mean, variance = (np.full(8, 0.5) for _ in range(4))
    >>> batch_norm_statistics([weight, bias, mean, variance, np.array(0)])
    ['2', '3']
    >>> one, zero = np.ones(8), np.zeros(8)
    >>> batch_norm_statistics([weight, one, zero, zero, one, bias])
    ['3', '4']
    >>> batch_norm_statistics([weight, bias])
    []
    """
    found: list[str] = []
    for i in range(len(arrays) - 1):
        mean, variance = arrays[i], arrays[i + 1]
        vectors = mean.ndim == 1 and mean.shape == variance.shape
        floating = mean.dtype.kind == variance.dtype.kind == "f"
        if vectors and floating and (_counted(arrays, i) or _new(arrays, i)):
            found += [str(i), str(i + 1)]
    return found


def _counted(arrays: Sequence[NDArray[Any]], i: int) -> bool:
    """Return whether a counter of batches follows the pair at i."""
    after = arrays[i + 2] if i + 2 < len(arrays) else np.ones(2)
    return after.dtype.kind == "i" and after.ndim == 0


def _new(arrays: Sequence[NDArray[Any]], i: int) -> bool:
    """Return whether the pair at i ends ones, zeros, zeros, ones of one length."""
    four = arrays[i - 2 : i + 2] if i >= 2 else ()
    return len(four) == 4 and all(
        array.shape == arrays[i].shape and bool((array == value).all())
        for array, value in zip(four, (1, 0, 0, 1), strict=True)
    )


def positive_vectors(
    named: Mapping[str, NDArray[Any]], layout: Layout
) -> dict[str, slice]:
    """Return the places in θ of vectors that are above zero everywhere.

    Examples
    --------
    >>> arrays = {"w": np.zeros((2, 2)), "var": np.ones(3), "b": np.zeros(3)}
    >>> positive_vectors(arrays, Layout.of(arrays))
    {'var': slice(4, 7, None)}
    """
    found, start = {}, 0
    for entry in layout.entries:
        if entry.kind != "parameter":
            continue
        values = np.asarray(named[entry.name])
        if values.ndim == 1 and values.size and values.min() > 0:
            found[entry.name] = slice(start, start + entry.size)
        start += entry.size
    return found
