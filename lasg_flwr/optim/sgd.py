"""Plain SGD, and with momentum."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..checks import real
from ..vectors import F32, F64, squared_distance
from .base import ServerStep


@dataclass(frozen=True)
class SGD(ServerStep[Any]):
    """θ^{k+1} = θ^k − η_k ∇^k: equation (5).

    Examples
    --------
    >>> SGD(0.5).update(np.float32([1.0]), np.array([2.0]), 0, None)[0].tolist()
    [0.0]
    >>> SGD(0.5).threshold_constant(3.0)  # 3/η_0²
    12.0
    """

    name: ClassVar[str] = "sgd"

    @property
    def is_one(self) -> bool:
        """Whether η_0 = 1."""
        return self.schedule(0) == 1.0

    def threshold_constant(self, c: float) -> float:
        """Return c/η_0²."""
        rate = self.schedule(0)
        try:
            return float(c / rate**2)
        except (OverflowError, ZeroDivisionError):
            raise ValueError(
                f"a learning rate of {rate!r} leads to no threshold: its square is no "
                "number; choose one from 1e-150 to 1e150"
            ) from None

    def squared_length(self, new: F32, old: F32, gradient: F64) -> float:
        """Return ‖θ^{k+1} − θ^k‖², of the true step."""
        return squared_distance(new, old)

    def direction(self, gradient: F64, state: Any) -> tuple[F64, Any]:
        """Return ∇^k."""
        return gradient, None


class Velocity(NamedTuple):
    """What `Momentum` remembers: v."""

    velocity: F64


@dataclass(frozen=True)
class Momentum(ServerStep[Velocity]):
    """Heavy ball: v ← βv + ∇^k, θ^{k+1} = θ^k − η_k v.

    Parameters
    ----------
    rate : float or Schedule (default: 0.1)
        η_k.
    beta : float (default: 0.9)
        β in [0, 1).
    """

    name: ClassVar[str] = "momentum"
    state = Velocity

    beta: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        beta = real("beta", self.beta, least=0.0, below=1.0)
        object.__setattr__(self, "beta", beta)

    def init(self, size: int) -> Velocity:
        """Return v = 0."""
        return Velocity(np.zeros(size))

    def direction(
        self, gradient: F64, state: Velocity | None
    ) -> tuple[F64, Velocity | None]:
        """Return v."""
        old = self.init(gradient.size) if state is None else state
        velocity: F64 = old.velocity * self.beta
        velocity += gradient
        return velocity, Velocity(velocity)
