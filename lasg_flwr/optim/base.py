"""What every server step offers: θ^{k+1} = step(θ^k, ∇^k), and the state it owns."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np

from ..checks import real
from ..errors import LasgError
from ..registry import Registry
from ..vectors import F32, F64, is_finite, squared_distance
from .schedules import Schedule, schedule_from

S = TypeVar("S", bound=NamedTuple)
_BLOCK = 1 << 15
"""Elements of a step that stay in the cache."""


@dataclass(frozen=True)
class ServerStep(ABC, Generic[S]):
    """How the server moves θ along ∇^k.

    A step is a frozen value; what it remembers is a NamedTuple of arrays and numbers
    that goes in and out of `update`, and is saved without anybody naming its fields.

    Parameters
    ----------
    rate : float or Schedule (default: 0.1)
        η_k.
    """

    name: ClassVar[str]
    state: ClassVar[type[Any] | None] = None
    """The type of what is remembered, or None for nothing."""

    rate: float | Schedule = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.rate, Schedule):
            object.__setattr__(self, "rate", real("rate", self.rate, above=0.0))

    @classmethod
    def check_registration(cls, known: Mapping[str, Any]) -> None:
        """Raise ValueError if a step from outside this package is not complete."""

    @cached_property
    def schedule(self) -> Schedule:
        """η_k, as a function of k."""
        return schedule_from(self.rate, "rate")

    @property
    def is_one(self) -> bool:
        """Whether the step is plain SGD with η_0 = 1, as updates of a model need."""
        return False

    def threshold_constant(self, c: float) -> float:
        """Return what a rule's c is times the squares of `squared_length`."""
        return c

    def squared_length(self, new: F32, old: F32, gradient: F64) -> float:
        """Return what the threshold averages of a step: ‖∇^k‖².

        A step that is not plain SGD is not −η∇^k; gradients are compared with ∇^k
        itself. For SGD with constant η the two are equal.

        Parameters
        ----------
        new, old : ndarray, shape (p,), float32
            θ^{k+1} and θ^k.
        gradient : ndarray, shape (p,), float64
            ∇^k.
        """
        return squared_distance(gradient)

    def init(self, size: int) -> S | None:
        """Return the state before the first step, for p = `size`."""
        return None

    def update(
        self, theta: F32, gradient: F64, k: int, state: S | None
    ) -> tuple[F32, S | None]:
        """Return θ^{k+1}, computed in float64 and rounded once, and the new state.

        Parameters
        ----------
        theta : ndarray, shape (p,), float32
            θ^k.
        gradient : ndarray, shape (p,), float64
            ∇^k.
        k : int
            The round.
        state : NamedTuple, optional
            What `init` or the last step returned.
        """
        direction, state = self.direction(gradient, state)
        rate = -self.schedule(k)
        with np.errstate(over="ignore"):
            if theta.size <= _BLOCK:
                return (direction * rate + theta).astype(np.float32), state
            new = np.empty(theta.size, np.float32)
            for start in range(0, theta.size, _BLOCK):
                at = slice(start, start + _BLOCK)
                step = direction[at] * rate
                step += theta[at]
                new[at] = step
        return new, state

    def finite_update(
        self, theta: F32, gradient: F64, k: int, state: S | None
    ) -> tuple[F32, S | None]:
        """Return what `update` does.

        Raises
        ------
        LasgError
            If θ^{k+1} is not finite.
        """
        theta, state = self.update(theta, gradient, k, state)
        if not is_finite(theta):
            raise LasgError(
                f"theta is not finite after round {k}: training diverged; lower the "
                "learning rate, or choose a codec with a larger alpha"
            )
        return theta, state

    @abstractmethod
    def direction(self, gradient: F64, state: S | None) -> tuple[F64, S | None]:
        """Return what −η_k scales, and the new state; the arguments stay."""


STEPS: Registry[ServerStep[Any]] = Registry("step", ServerStep)  # type: ignore[type-abstract]
"""All server steps, by name."""


def step_from(choice: "float | str | ServerStep[Any]") -> ServerStep[Any]:
    """Return a server step: a number is plain SGD's learning rate.

    Parameters
    ----------
    choice : float, str or ServerStep
        A number, a string form such as ``"adam:rate=0.01"``, or an object.

    Raises
    ------
    ValueError
        If it is none of these, or the learning rate is out of range.

    Examples
    --------
    >>> step_from(0.5).name, step_from("momentum:rate=0.1,beta=0.8").beta
    ('sgd', 0.8)
    """
    if isinstance(choice, Real) and not isinstance(choice, bool):
        return STEPS.classes["sgd"](real("rate", choice, above=0.0))
    return STEPS.parse(choice)
