"""Random least-squares problems whose constants are computed, not guessed.

ℓ(θ; ξ) = ½ (a·θ − b)² for a sample ξ = (a, b); L_m is the mean over worker m's rows,
L the mean over the workers. Targets carry noise, so that single-sample gradients do
not vanish at θ*.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lasg_flwr import Oracle
from lasg_flwr.vectors import F32, F64

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class SolvedLeastSquares:
    """M workers with n rows each: features (M, n, p) and targets (M, n)."""

    features: F64
    targets: F64

    @property
    def workers(self) -> int:
        """M."""
        return len(self.features)

    @property
    def size(self) -> int:
        """p."""
        return int(self.features.shape[2])

    @cached_property
    def hessians(self) -> F64:
        """A_mᵀA_m / n, shape (M, p, p)."""
        transposed = self.features.transpose(0, 2, 1)
        hessians: F64 = transposed @ self.features / self.features.shape[1]
        return hessians

    @cached_property
    def local_smoothness(self) -> list[float]:
        """L_m = λ_max of worker m's Hessian."""
        return [float(np.linalg.eigvalsh(h)[-1]) for h in self.hessians]

    @cached_property
    def smoothness(self) -> float:
        """L = λ_max of the Hessian of L."""
        return float(np.linalg.eigvalsh(self.hessians.mean(axis=0))[-1])

    @cached_property
    def mu(self) -> float:
        """μ = λ_min of the Hessian of L: strong convexity, hence PL with the same μ."""
        return float(np.linalg.eigvalsh(self.hessians.mean(axis=0))[0])

    @cached_property
    def sample_smoothness(self) -> float:
        """L̄ = max ‖a‖² over all samples: the Hessian of one sample is a aᵀ."""
        return float(np.square(self.features).sum(axis=2).max())

    @cached_property
    def minimiser(self) -> F64:
        """θ*, from the normal equations of L."""
        right = np.einsum("mnp,mn->p", self.features, self.targets)
        scale = self.workers * self.features.shape[1]
        solution: F64 = np.linalg.solve(self.hessians.mean(axis=0), right / scale)
        return solution

    @cached_property
    def least_loss(self) -> float:
        """L(θ*)."""
        return float(self.loss(self.minimiser))

    def loss(self, theta: F64) -> F64:
        """L at θ of shape (..., p)."""
        residuals = np.einsum("mni,...i->...mn", self.features, theta) - self.targets
        loss: F64 = 0.5 * np.square(residuals).mean(axis=(-2, -1))
        return loss

    def excess(self, theta: F64) -> F64:
        """L(θ) − L(θ*) at θ of shape (..., p), free of cancellation.

        Exact for a quadratic: ½ (θ − θ*)ᵀ H (θ − θ*).
        """
        away = theta - self.minimiser
        hessian = self.hessians.mean(axis=0)
        excess: F64 = 0.5 * np.einsum("...i,ij,...j->...", away, hessian, away)
        return excess

    def sample_gradients(self, worker: int, theta: F64) -> F64:
        """∇ℓ(θ; ξ) for every sample ξ of a worker: (n, p); θ is (p,) or (n', 1, p)."""
        a = self.features[worker]
        residuals = (theta * a).sum(axis=-1) - self.targets[worker]
        gradients: F64 = residuals[..., None] * a
        return gradients

    def local_gradient(self, worker: int, theta: F64) -> F64:
        """∇L_m at θ of shape (..., p)."""
        n = self.features.shape[1]
        gradient: F64 = (
            theta @ self.hessians[worker]
            - self.targets[worker] @ self.features[worker] / n
        )
        return gradient

    def gradient(self, theta: F64) -> F64:
        """∇L at θ of shape (..., p)."""
        gradient: F64 = (theta - self.minimiser) @ self.hessians.mean(axis=0)
        return gradient

    def variance(self, worker: int, theta: F64) -> float:
        """E‖∇ℓ(θ; ξ) − ∇L_m(θ)‖² of one uniform sample, exactly."""
        gradients = self.sample_gradients(worker, theta)
        centred = gradients - gradients.mean(axis=0)
        return float(np.square(centred).sum(axis=1).mean())

    def oracles(self, batch_size: int) -> list[RowsOracle]:
        """One oracle for each worker."""
        return [
            RowsOracle(a, b, batch_size)
            for a, b in zip(self.features, self.targets, strict=True)
        ]


@dataclass(frozen=True)
class RowsOracle(Oracle):
    """Minibatches of rows, drawn independently: the variance is that of one / size."""

    features: F64
    targets: F64
    batch_size: int

    @property
    def num_examples(self) -> int:
        return len(self.targets)

    def draw(self, rng: np.random.Generator) -> Indices:
        return rng.integers(self.num_examples, size=self.batch_size)

    def gradient(self, theta: F32, batch: Indices) -> F32:
        a = self.features[batch]
        gradient: F64 = (a @ theta - self.targets[batch]) @ a / len(batch)
        return gradient.astype(np.float32)


def random_least_squares(
    seed: int,
    *,
    workers: int,
    samples: int,
    size: int,
    noise: float = 1.0,
    scales: F64 | None = None,
    drift: float = 0.0,
    mirrored: bool = False,
) -> SolvedLeastSquares:
    """Gaussian rows; worker m's are scaled by scales[m] and solved by its own θ_m.

    `drift` is the spread of the θ_m around a common one: the heterogeneity.
    `mirrored` gives each row a twin with the opposite noise, so that the samples'
    gradients at θ_m are symmetric about 0: an exactly symmetric noise.
    """
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((workers, samples, size))
    if scales is not None:
        features *= scales[:, None, None]
    truths = rng.standard_normal(size) + drift * rng.standard_normal((workers, size))
    targets = np.einsum("mnp,mp->mn", features, truths)
    noises = noise * rng.standard_normal((workers, samples))
    if mirrored:
        features = np.concatenate([features, features], axis=1)
        targets = np.concatenate([targets, targets], axis=1)
        noises = np.concatenate([noises, -noises], axis=1)
    targets += noises
    return SolvedLeastSquares(features, targets)
