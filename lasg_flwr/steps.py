"""Server steps θ^{k+1} = step(θ^k, ∇^k); for step sizes see `lasg_flwr.schedules`."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from .schedules import Constant, Schedule
from .vectors import F32, F64


class ServerStep(ABC):
    """How the server moves θ along ∇^k.

    Parameters
    ----------
    learning_rate : float or Constant or Decreasing
        η_k.
    """

    name: ClassVar[str]

    def __init__(self, learning_rate: float | Schedule) -> None:
        if isinstance(learning_rate, int | float):
            learning_rate = Constant(float(learning_rate))
        self.schedule: Schedule = learning_rate
        self.state: dict[str, F64] = {}

    @property
    def is_one(self) -> bool:
        """Whether the step is plain SGD with η = 1, as updates of a model need."""
        return False

    def default_c(self) -> float:
        """Return the default threshold constant of this step.

        Raises
        ------
        ValueError
            For steps other than SGD, which have none.
        """
        raise ValueError(
            f"the server step {self.name!r} has no default for c: pass one with the "
            "rule, such as WK2(c=...)"
        )

    def __call__(self, theta: F32, gradient: F64, k: int) -> F32:
        """Return θ^{k+1}, computed in float64 and rounded once.

        Parameters
        ----------
        theta : ndarray, shape (p,), float32
            θ^k.
        gradient : ndarray, shape (p,), float64
            ∇^k.
        k : int
            The round.
        """
        step = self.direction(gradient, k)
        step *= -self.schedule(k)
        step += theta
        with np.errstate(over="ignore"):
            return step.astype(np.float32)

    @abstractmethod
    def direction(self, gradient: F64, k: int) -> F64:
        """Return a new array: the direction that −η_k scales."""

    def load(self, state: Mapping[str, F64]) -> None:
        """Restore the moments of a checkpoint."""
        self.state = {name: np.array(value) for name, value in state.items()}

    def _moment(self, name: str, like: F64) -> F64:
        if name not in self.state:
            self.state[name] = np.zeros_like(like)
        return self.state[name]


class SGD(ServerStep):
    """θ^{k+1} = θ^k − η_k ∇^k: equation (5).

    Examples
    --------
    >>> SGD(0.5)(np.float32([1.0]), np.array([2.0]), k=0).tolist()
    [0.0]
    >>> SGD(0.1).default_c()  # 1/η_0²
    99.99999999999999
    """

    name = "sgd"

    @property
    def is_one(self) -> bool:
        """Whether η_0 = 1."""
        return self.schedule(0) == 1.0

    def default_c(self) -> float:
        """Return 1/η_0²."""
        return 1.0 / self.schedule(0) ** 2

    def direction(self, gradient: F64, k: int) -> F64:
        """Return ∇^k."""
        return gradient.copy()


class Momentum(ServerStep):
    """Heavy ball: v ← βv + ∇^k, θ^{k+1} = θ^k − η_k v.

    Parameters
    ----------
    learning_rate : float or schedule
        η_k.
    beta : float (default: 0.9)
        β in [0, 1).
    """

    name = "momentum"

    def __init__(self, learning_rate: float | Schedule, beta: float = 0.9) -> None:
        super().__init__(learning_rate)
        self.beta = _rate("beta", beta)

    def direction(self, gradient: F64, k: int) -> F64:
        """Return v."""
        velocity = self._moment("velocity", gradient)
        velocity *= self.beta
        velocity += gradient
        return velocity.copy()


class Adam(ServerStep):
    """Adam: m̂ / (√v̂ + ε), with bias correction.

    Parameters
    ----------
    learning_rate : float or schedule
        η_k.
    beta1, beta2 : float (default: 0.9, 0.999)
        Decay of the moments, in [0, 1).
    epsilon : float (default: 1e-8)
        ε > 0.
    """

    name = "adam"

    def __init__(
        self,
        learning_rate: float | Schedule,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(learning_rate)
        self.beta1, self.beta2 = _rate("beta1", beta1), _rate("beta2", beta2)
        if not epsilon > 0:
            raise ValueError(f"epsilon must be > 0, got {epsilon!r}")
        self.epsilon = epsilon

    def direction(self, gradient: F64, k: int) -> F64:
        """Return the scaled first moment."""
        first, second = self._moments(gradient)
        count = self._moment("count", np.zeros(1))
        count += 1
        corrected: F64 = first / (1 - self.beta1 ** count[0])
        scale = np.sqrt(self._second(second) / (1 - self.beta2 ** count[0]))
        corrected /= scale + self.epsilon
        return corrected

    def _moments(self, gradient: F64) -> tuple[F64, F64]:
        first = self._moment("first", gradient)
        second = self._moment("second", gradient)
        first *= self.beta1
        first += (1 - self.beta1) * gradient
        second *= self.beta2
        second += (1 - self.beta2) * gradient**2
        return first, second

    def _second(self, second: F64) -> F64:
        return second


class AMSGrad(Adam):
    """AMSGrad: Adam with the running maximum of the second moment."""

    name = "amsgrad"

    def _second(self, second: F64) -> F64:
        largest = self._moment("largest", second)
        np.maximum(largest, second, out=largest)
        return largest


def step_from(choice: float | ServerStep) -> ServerStep:
    """Return a step of its own for a server: a number is plain SGD's learning rate.

    Raises
    ------
    ValueError
        If it is neither, or the learning rate is out of range.

    Examples
    --------
    >>> step_from(0.5).name
    'sgd'
    """
    if isinstance(choice, ServerStep):
        return copy.deepcopy(choice)  # its moments are this run's
    if isinstance(choice, str):
        raise ValueError(
            f"step must be a number or a ServerStep, such as Adam(0.01), got {choice!r}"
        )
    return SGD(choice)


def _rate(name: str, value: float) -> float:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must lie in [0, 1), got {value!r}")
    return value
