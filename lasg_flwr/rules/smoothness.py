"""Smoothness constants L_m of linear models, for `lasg_flwr.rules.PS`."""

from typing import Literal

import numpy as np

from ..vectors import F32, F64

_FACTOR = {"logistic": 0.25, "softmax": 0.5, "squared": 1.0}


def linear_smoothness(
    features: F32 | F64,
    loss: Literal["logistic", "softmax", "squared"] = "logistic",
    l2: float = 0.0,
) -> float:
    """Return L_m of the mean loss of a linear model over a worker's data.

    λ_max(XᵀX/n) times 1/4 (logistic), 1/2 (softmax) or 1 (half the squared error),
    plus the regularisation λ.

    Parameters
    ----------
    features : ndarray, shape (n, d)
        The worker's data, with the constant column if the model has one.
    loss : {"logistic", "softmax", "squared"}
        The loss.
    l2 : float (default: 0.0)
        λ of λ/2 ‖θ‖².

    Raises
    ------
    ValueError
        For an unknown loss or empty data.

    Examples
    --------
    >>> linear_smoothness(np.array([[2.0, 0.0], [0.0, 1.0]]), "logistic")  # (4/2)/4
    0.5
    """
    if loss not in _FACTOR:
        raise ValueError(f"unknown loss {loss!r}: choose one of {', '.join(_FACTOR)}")
    if features.ndim != 2 or features.shape[0] == 0:
        raise ValueError(f"features of shape {features.shape}: need (n, d) with n >= 1")
    x = features.astype(np.float64)
    gram: F64 = x @ x.T if x.shape[0] < x.shape[1] else x.T @ x
    largest = float(np.linalg.eigvalsh(gram)[-1]) / x.shape[0]
    return float(_FACTOR[loss] * largest + l2)


def local_steps_smoothness(
    smoothness: float, learning_rate: float, local_steps: int
) -> float:
    """Return L of the pseudo-gradient of H local steps: (1 + ηL_m)^H − 1.

    Examples
    --------
    >>> local_steps_smoothness(2.0, learning_rate=0.5, local_steps=3)
    7.0
    """
    return float((1.0 + learning_rate * smoothness) ** local_steps - 1.0)
