"""Local steps: H steps of local SGD as one lazily aggregated pseudo-gradient."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import real, whole
from ..vectors import F32
from .base import Oracle
from .wrapper import OracleWrapper


@dataclass(frozen=True)
class LocalSteps(OracleWrapper):
    """An oracle whose gradient is the pseudo-gradient u = θ^k − θ_local.

    θ_local is reached from θ^k by H local SGD steps on H minibatches, in the form of
    PyTorch's SGD: with w = θ^k and v = 0 at first, each step is

        d = ∇ℓ(w; ξ) + λ w + μ (w − θ^k),      v ← β v + d,      w ← w − η v

    β is the momentum, whose v is new in every round, λ the weight decay, and μ the
    weight of FedProx's term μ/2 ‖w − θ^k‖². Both points of WK2 use the same H
    minibatches. The server's step for it is 1, and so is c: with H = 1 this is the
    gradient path, scaled by η, up to rounding.

    Whatever else the inner oracle offers passes through; its buffers go from one local
    step to the next.

    Parameters
    ----------
    oracle : Oracle
        Draws one minibatch and computes its gradient.
    steps : int
        H ≥ 1.
    learning_rate : float or callable
        η of the local steps; of a schedule, such as `lasg_flwr.optim.Cosine`, η_k in
        all local steps of round k, which `start_round` tells (0 until then).
    momentum : float (default: 0)
        β in [0, 1).
    weight_decay : float (default: 0)
        λ ≥ 0; on all of θ, and not part of the loss that the oracle evaluates.
    proximal : float (default: 0)
        μ ≥ 0.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> class Slope(Oracle):
    ...     num_examples = 1
    ...     def draw(self, rng):
    ...         return None
    ...     def gradient(self, theta, batch):
    ...         return np.float32([1.0])
    >>> local = LocalSteps(Slope(), steps=4, learning_rate=0.5)
    >>> batches = local.draw(np.random.default_rng(0))
    >>> local.gradient(np.float32([0.0]), batches).tolist()
    [2.0]
    """

    oracle: Oracle
    steps: int
    learning_rate: float | Callable[[int], float]
    momentum: float = 0.0
    weight_decay: float = 0.0
    proximal: float = 0.0

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "steps": whole("steps", self.steps, least=1),
            "momentum": real("momentum", self.momentum, least=0, below=1),
            "weight_decay": real("weight_decay", self.weight_decay, least=0),
            "proximal": real("proximal", self.proximal, least=0),
        }
        if not callable(self.learning_rate):
            rate = real("learning_rate", self.learning_rate, above=0)
            checked["learning_rate"] = rate
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def gradients_per_call(self) -> int:
        """H, times what one call of the inner oracle computes."""
        return self.steps * self.oracle.gradients_per_call

    def start_round(self, k: int) -> None:
        """Take the round counter k: local iteration h of it is t = kH + h."""
        object.__setattr__(self, "_round", k)

    def draw(self, rng: np.random.Generator) -> list[Any]:
        """Draw H minibatches."""
        return [self._draw(rng, h) for h in range(self.steps)]

    def _draw(self, rng: np.random.Generator, h: int) -> Any:
        round_: int | None = getattr(self, "_round", None)
        if round_ is not None:
            self.oracle.start_round(round_ * self.steps + h)
        return self.oracle.draw(rng)

    def halves(self, batch: list[Any]) -> tuple[list[Any], list[Any]]:
        """Halve each minibatch."""
        first, second = zip(*map(self.oracle.halves, batch), strict=True)
        return list(first), list(second)

    def gradient(self, theta: F32, batch: list[Any]) -> F32:
        """Return θ − θ_local after one local step on each minibatch."""
        local, velocity, rate = theta, None, np.float32(self._rate())
        for minibatch in batch:
            direction = self._direction(theta, local, minibatch)
            if self.momentum and velocity is not None:
                direction = np.float32(self.momentum) * velocity + direction
            velocity = direction
            local = local - rate * direction
        return theta - local

    def _rate(self) -> float:
        """Return η of this round."""
        rate = self.learning_rate
        return rate(getattr(self, "_round", 0)) if callable(rate) else rate

    def _direction(self, theta: F32, local: F32, minibatch: Any) -> F32:
        direction = self.oracle.gradient(local, minibatch)
        if self.weight_decay:
            direction = direction + np.float32(self.weight_decay) * local
        if self.proximal:
            direction = direction + np.float32(self.proximal) * (local - theta)
        return direction
