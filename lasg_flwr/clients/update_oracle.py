"""Somebody else's training as a gradient oracle: what it makes of a model."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import LasgError
from ..flower import records
from ..layout import Layout
from ..oracles.base import Oracle
from ..oracles.seeding import all_seeded, loaded_frameworks
from ..protocol.messages import Request
from ..vectors import F32


class Trained(NamedTuple):
    """A trained model's arrays by name, its number of examples, and its metrics."""

    arrays: Mapping[str, NDArray[Any]]
    examples: int
    metrics: dict[str, Any]


class UpdateOracle(Oracle):
    """Pseudo-gradients u = θ^k − θ_local of a training that knows nothing of this.

    For every run the global generators of Python, NumPy, PyTorch (all devices) and
    TensorFlow are seeded alike, so that two runs of one round differ in θ, and in the
    config, which is that of the iterate's own round. The run at θ^k comes last.

    Parameters
    ----------
    request : Request
        The server's, with the form of its model.

    Attributes
    ----------
    reported : dict
        The metrics of the last run, which is the one at θ^k.
    repeats : bool
        Whether the rule compares two runs, so that they must be seeded alike.
    """

    def __init__(self, request: Request) -> None:
        self.layout = Layout.from_json(request.form.layout)
        self.reported: dict[str, Any] = {}
        self.repeats = False
        self._told: dict[str, Any] = request.config or {}
        self._integers = request.form.integers
        self._loaded = self._buffers = request.buffers
        self._examples = 1
        self._checked: F32 | None = None

    @abstractmethod
    def train(self, arrays: dict[str, NDArray[Any]], config: dict[str, Any]) -> Trained:
        """Train a model; raise `LasgError` if what comes back is no model."""

    @property
    def num_examples(self) -> int:
        """Examples that the last run was made with, as it said."""
        return self._examples

    @property
    def size(self) -> int:
        """Length p of θ."""
        return self.layout.size

    def draw(self, rng: np.random.Generator) -> int:
        """Draw the seed of this round's generators: the training draws its batches."""
        return int(rng.integers(2**32))

    def configure(self, config: dict[str, Any]) -> None:
        """Take the config that the next runs get."""
        self._told = config

    def load_buffers(self, values: F32) -> None:
        """Take over the server's buffers: the training finds them in the model."""
        self._loaded = values

    def buffers(self) -> F32:
        """Return the buffers of the model that came back last."""
        return self._buffers

    def gradient(self, theta: F32, batch: int) -> F32:
        """Train from θ and return θ minus what came of it.

        Raises
        ------
        LasgError
            After `check_repeatable`, if the training seeds itself by the round.
        """
        known = loaded_frameworks()
        update = self._run(theta, batch)
        if self.repeats and loaded_frameworks() != known:
            update = self._run(theta, batch)  # imported just now, and unseeded
        checked, self._checked = self._checked, None
        if checked is not None and np.array_equal(checked, update):
            self._check_round(theta, batch, update)
        return update

    def _check_round(self, theta: F32, batch: int, update: F32) -> None:
        """Refuse a training that other seeds do not change, but another round does."""
        told = self._told
        rounds = {name: value + 1 for name, value in told.items()
                  if "round" in name.lower() and isinstance(value, int)}  # fmt: skip
        if not rounds:
            return
        self._told = {**told, **rounds}
        other = self._run(theta, batch)
        self._told = told
        self._run(theta, batch)  # what an app leaves is of this run
        if not np.array_equal(other, update):
            raise LasgError(
                "this ClientApp trains alike whatever the seed, and otherwise where "
                f"{' and '.join(rounds)} differ in its config: it seeds itself by the "
                "round, so that a second run, at an older model, does not see the "
                "batches of the first. Leave seeds to the global generators or make "
                'them from the config\'s "lasg-seed"; or choose a rule that runs it '
                'once, such as "sgd" (with full batches and a learning rate by round, '
                '"lag" saves as much)'
            )

    def check_repeatable(self, theta: F32, batch: int) -> None:
        """Train twice from one θ and compare; the next `gradient`, there, goes on.

        Raises
        ------
        LasgError
            If the two updates differ.
        """
        runs = [(self.gradient(theta, batch), self.buffers()) for _ in range(2)]
        first, second = (update.tobytes() + b.tobytes() for update, b in runs)
        if first != second:
            raise LasgError(
                "this ClientApp does not repeat itself: run twice at the same model "
                "with equal seeds, its updates differ, so it did not draw the same "
                "batches, or masks. Draw all randomness from the global generators of "
                "Python, NumPy or PyTorch, or from a generator that is made anew in "
                "each call, and use deterministic kernels; or choose a rule that runs "
                'it once, such as "sgd"'
            )
        self._checked = runs[0][0]

    def finish(self, failed: bool = False) -> None:
        """Take note that the round is over; `failed` if it came to nothing."""

    def _run(self, theta: F32, seed: int) -> F32:
        arrays = self.layout.unflatten(theta, self._loaded, self._integers)
        told = {**self._told, records.SEED_KEY: seed} if self.repeats else self._told
        with all_seeded(seed):
            made, self._examples, self.reported = self.train(arrays, dict(told))
        return self._update(theta, made)

    def _update(self, theta: F32, made: Mapping[str, NDArray[Any]]) -> F32:
        try:
            update: F32 = theta - self.layout.flatten(made, "parameter")
            self._buffers = self.layout.flatten(made, "buffer")
            self.layout.integers(made)  # their values stay the server's
            return update
        except ValueError as error:
            raise LasgError(f"the ClientApp returned another model: {error}") from None
