"""Oracles around other oracles."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..vectors import F32
from .base import Oracle


class OracleWrapper(Oracle):
    """An oracle around another: whatever it does not define itself is the other's.

    Only `draw_batch` is not: what a wrapper draws need not be what the inner oracle
    draws.

    Attributes
    ----------
    oracle : Oracle
        The inner one.
    """

    oracle: Oracle

    @property
    def num_examples(self) -> int:
        """Number of training examples."""
        return self.oracle.num_examples

    @property
    def size(self) -> int | None:
        """Length p of θ."""
        return self.oracle.size

    @property
    def gradients_per_call(self) -> int:
        """Minibatch gradients that one call computes."""
        return self.oracle.gradients_per_call

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw a batch."""
        return self.oracle.draw(rng)

    def halves(self, batch: Any) -> tuple[Any, Any]:
        """Halve a batch."""
        return self.oracle.halves(batch)

    def gradient(self, theta: F32, batch: Any) -> F32:
        """Return the gradient."""
        return self.oracle.gradient(theta, batch)

    def configure(self, config: dict[str, Any]) -> None:
        """Hand on the server's config."""
        self.oracle.configure(config)

    def start_round(self, k: int) -> None:
        """Hand on the round counter."""
        self.oracle.start_round(k)

    def metrics(self) -> Mapping[str, Any]:
        """Return the inner oracle's metrics."""
        return self.oracle.metrics()

    def evaluate(self, theta: F32) -> tuple[float, int, Mapping[str, Any]]:
        """Evaluate the inner oracle."""
        return self.oracle.evaluate(theta)

    def load_buffers(self, values: F32) -> None:
        """Load the inner oracle's buffers."""
        self.oracle.load_buffers(values)

    def buffers(self) -> F32 | None:
        """Return the inner oracle's buffers."""
        return self.oracle.buffers()

    def __getattr__(self, name: str) -> Any:
        """Return what else the inner oracle has under this name."""
        if name == "oracle" or name.startswith("_"):  # also of a copy not made yet
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        return getattr(self.oracle, name)
