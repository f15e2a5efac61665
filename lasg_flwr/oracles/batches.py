"""Batch schedules: b^(t) = ⌊ρ^t b^(0)⌋ at local iteration t (sparse local SGD)."""

from dataclasses import dataclass
from math import inf, log
from typing import Any

import numpy as np

from ..checks import real, whole
from ..errors import LasgError
from .base import Oracle, overrides
from .wrapper import OracleWrapper


@dataclass(frozen=True)
class BatchSchedule:
    """b^(t) = min(⌊ρ^t b^(0)⌋, n), with t counted over the whole run.

    Parameters
    ----------
    initial : int
        b^(0) ≥ 1, examples.
    growth : float (default: 1.0)
        ρ ≥ 1; 1 keeps the minibatch as it is.

    Raises
    ------
    ValueError
        If b^(0) or ρ is out of range.

    Examples
    --------
    >>> schedule = BatchSchedule(initial=10, growth=1.5)
    >>> [schedule.size(t, examples=40) for t in (0, 1, 2, 3, 4, 10**9)]
    [10, 15, 22, 33, 40, 40]
    """

    initial: int
    growth: float = 1.0

    def __post_init__(self) -> None:
        initial = whole("the initial batch b^(0)", self.initial, least=1)
        hint = ": 1 keeps the batch as it is, 1.01 lets it grow by 1 % an iteration"
        growth = real("the batch growth ρ", self.growth, least=1.0, hint=hint)
        object.__setattr__(self, "initial", initial)
        object.__setattr__(self, "growth", growth)

    def size(self, iteration: int, examples: int) -> int:
        """Return b^(t), capped at n before it is computed: ρ^t overflows.

        Parameters
        ----------
        iteration : int
            t ≥ 0.
        examples : int
            n ≥ 1, the worker's training examples.
        """
        if self.initial >= examples or iteration > self._iterations_to(examples):
            return examples
        if self.growth == 1.0:
            return self.initial
        return int(min(self.initial * self.growth**iteration, examples))

    def _iterations_to(self, examples: int) -> float:
        """Return a t at which ρ^t b^(0) ≥ n for sure, and at most about ρn."""
        if self.growth == 1.0:
            return inf
        return log(examples / self.initial) / log(self.growth) + 1.0


class ScheduledBatches(OracleWrapper):
    """An oracle whose minibatches grow as a `BatchSchedule` says.

    Every draw must be preceded by `start_round`: `LasgWorker` does it with the server's
    round counter, `LocalSteps` with t = kH + h. Nothing else is kept between draws, so
    that a client may be built anew for every message. Whatever else the oracle offers
    is offered by this one too.

    Parameters
    ----------
    oracle : Oracle
        Must offer ``draw_batch(rng, size)``: draw a minibatch of `size` examples.
        `LocalSteps` goes around this oracle, not inside it.
    schedule : BatchSchedule
        b^(0) and ρ.

    Raises
    ------
    TypeError
        If the oracle has no ``draw_batch``.
    """

    def __init__(self, oracle: Oracle, schedule: BatchSchedule) -> None:
        if not overrides(oracle, "draw_batch"):
            oracle.draw_batch(np.random.default_rng(0), 1)  # says what is missing
        self.oracle = oracle
        self.schedule = schedule
        self._iteration: int | None = None

    def start_round(self, k: int) -> None:
        """Take the number t of the draw to come."""
        self._iteration = k
        self.oracle.start_round(k)

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw b^(t) examples.

        Raises
        ------
        LasgError
            If `start_round` was not called first.
        """
        if self._iteration is None:
            raise LasgError(
                "a growing minibatch needs the round: call start_round(k) before draw"
            )
        size = self.schedule.size(self._iteration, self.num_examples)
        self._iteration = None
        return self.oracle.draw_batch(rng, size)
