"""Adam and AMSGrad."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ..checks import real
from ..vectors import F64
from .base import ServerStep


class Moments(NamedTuple):
    """What the steps of this file remember.

    Attributes
    ----------
    steps : int
        Steps taken.
    first, second : ndarray, shape (p,)
        m and v.
    largest : ndarray, shape (p,), optional
        The running maximum of v (AMSGrad).
    """

    steps: int
    first: F64
    second: F64
    largest: F64 | None = None


@dataclass(frozen=True)
class Adam(ServerStep[Moments]):
    """Adam: m̂ / (√v̂ + ε), with bias correction.

    Parameters
    ----------
    rate : float or Schedule (default: 0.1)
        η_k.
    beta1, beta2 : float (default: 0.9, 0.999)
        Decay of the moments, in [0, 1).
    epsilon : float (default: 1e-8)
        ε > 0.
    """

    name: ClassVar[str] = "adam"
    state = Moments

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("beta1", "beta2"):
            value = real(field, getattr(self, field), least=0.0, below=1.0)
            object.__setattr__(self, field, value)
        object.__setattr__(self, "epsilon", real("epsilon", self.epsilon, above=0.0))

    def init(self, size: int) -> Moments:
        """Return moments of 0."""
        return Moments(0, np.zeros(size), np.zeros(size))

    def direction(
        self, gradient: F64, state: Moments | None
    ) -> tuple[F64, Moments | None]:
        """Return the scaled first moment."""
        old = self.init(gradient.size) if state is None else state
        first: F64 = old.first * self.beta1
        first += (1 - self.beta1) * gradient
        second: F64 = old.second * self.beta2
        second += (1 - self.beta2) * gradient**2
        new = self.scaled_by(Moments(old.steps + 1, first, second, old.largest))
        scale = second if new.largest is None else new.largest
        corrected: F64 = first / (1 - self.beta1**new.steps)
        corrected /= np.sqrt(scale / (1 - self.beta2**new.steps)) + self.epsilon
        return corrected, new

    def scaled_by(self, moments: Moments) -> Moments:
        """Return the moments with the one that scales the step brought up to date."""
        return moments


@dataclass(frozen=True)
class AMSGrad(Adam):
    """AMSGrad: Adam with the running maximum of the second moment."""

    name: ClassVar[str] = "amsgrad"

    def scaled_by(self, moments: Moments) -> Moments:
        """Return the running maximum with the moments."""
        old = moments.largest
        second = moments.second
        largest = second if old is None else np.maximum(old, second)
        return moments._replace(largest=largest)
