"""What encode accepts: NumPy arrays, and tensors that know how to become one."""

from typing import Any

import numpy as np

from ...vectors import F32


def as_vector(x: Any) -> F32:
    """Return `x` as a flat float32 array, without a copy where none is needed.

    Parameters
    ----------
    x : array_like or torch.Tensor
        A tensor on the CPU shares its memory; one on another device is fetched.

    Raises
    ------
    ValueError
        If there is more than one axis.

    Examples
    --------
    >>> x = np.float32([1, 2])
    >>> as_vector(x) is x
    True
    """
    if not isinstance(x, np.ndarray) and hasattr(x, "detach"):
        x = x.detach().cpu().float().numpy()
    vector: F32 = np.ascontiguousarray(x, np.float32)
    if vector.ndim != 1 or np.ndim(x) != 1:
        raise ValueError(
            f"a vector to encode has shape {np.shape(x)}: flatten it with reshape(-1)"
        )
    return vector
