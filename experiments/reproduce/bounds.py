"""Right-hand sides of the theorems, with the constants of their proofs."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from lasg_flwr.vectors import F64


@dataclass(frozen=True)
class Constants:
    """What the bounds depend on.

    Attributes
    ----------
    smoothness : float
        L.
    workers, max_delay : int
        M and D.
    variance : float
        Σ_m σ_m², or Σ_m (σ_m² + σ_Q²/2) under quantization.
    start : float
        L(θ^0) − L*.
    """

    smoothness: float
    workers: int
    max_delay: int
    variance: float
    start: float

    def noise(self, quantized: bool = False) -> float:
        """R / Σσ²-free: the factor of η² Σσ², (9/2 + 12√M·D) L/M².

        The proof of Theorem 2 goes the same way with 12 for 9 in (31) and √M·L/6 for
        √M·L/12 in (30), hence γ_1 ≤ 5√M·D·L/12, and (6 + 16√M·D) L/M².
        """
        root = sqrt(self.workers) * self.max_delay
        factor = 6 + 16 * root if quantized else 4.5 + 12 * root
        return factor * self.smoothness / self.workers**2 * self.variance

    def mean_square_gradient(
        self, step: float, rounds: int, quantized: bool = False
    ) -> float:
        """Return the bound of (1/K) Σ E‖∇L(θ^k)‖²: (53), first line."""
        return 2 / (rounds * step) * self.start + 2 * step * self.noise(quantized)

    def excess(self, mu: float, k0: float, rounds: int) -> float:
        """Return the bound of E L(θ^K) − L*: (62)."""
        first = (k0 - 1) ** 2 * self.start
        return (first + 4 * self.noise() * rounds / mu**2) / (rounds + k0 - 1) ** 2


def gamma(
    step: float, c: float, smoothness: float, workers: int, max_delay: int, d_max: int
) -> F64:
    """Return γ_1 ... γ_D of the Lyapunov function (32), as Theorem 1's proof has them.

    γ_d − γ_{d+1} is the same for all d and γ_{D+1} = 0, so that γ_d = γ_1 (D+1−d)/D,
    with γ_1 from (49).

    Examples
    --------
    >>> gamma(0.1, 0.0, 1.0, workers=4, max_delay=3, d_max=3).round(3).tolist()
    [0.5, 0.333, 0.167]
    """
    share = c * max_delay / d_max
    above = (step + 1 / (2 * smoothness)) * share
    above += sqrt(workers) * max_delay * smoothness / 12
    first = above / (1 - 6 * share * step**2)
    weights: F64 = first * np.arange(max_delay, 0, -1) / max_delay
    return weights


def lyapunov(excess: F64, thetas: F64, weights: F64) -> F64:
    """Return V^0 ... V^K of (32).

    Parameters
    ----------
    excess : ndarray, shape (K + 1,)
        L(θ^k) − L*.
    thetas : ndarray, shape (K + 1, p)
        θ^0 ... θ^K; θ^{−d} = θ^0.
    weights : ndarray, shape (D,)
        γ_1 ... γ_D.
    """
    squares = np.square(np.diff(thetas, axis=0)).sum(axis=1)
    past = np.convolve(squares, weights)[: len(squares)]
    values: F64 = excess + np.concatenate([[0.0], past])
    return values
