"""An existing ClientApp as a gradient oracle: its update of the model."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from numpy.typing import NDArray

from ..errors import LasgError
from ..flower import names, records
from ..layout import Layout
from ..oracles.base import Oracle
from ..oracles.seeding import all_seeded, loaded_frameworks
from ..vectors import F32
from . import app_records

CallNext = Callable[[Message, Context], Message]


class AppOracle(Oracle):
    """Pseudo-gradients of a ClientApp: u = θ^k − θ_local, where the app makes θ_local.

    For every call the global generators of Python, NumPy and PyTorch (all devices) are
    seeded alike, and given back after it. The app gets the `Context.state` that it had
    before the round, and the server's buffers, so that two calls of one round differ in
    θ, and in the config, which is that of the iterate's own round. The call at θ^k
    comes last; the state after it is kept, unless the round fails.

    Parameters
    ----------
    message : Message
        The server's training request.
    context : Context
        The client's context.
    call_next : callable
        The app, or the next mod.

    Attributes
    ----------
    reported : dict
        The app's metrics at θ^k.
    repeats : bool
        Whether the rule compares two runs of the app, so that they must be seeded
        alike.
    """

    def __init__(self, message: Message, context: Context, call_next: CallNext) -> None:
        self._message = message
        self._context = context
        self._call_next = call_next
        parameters, config = app_records.numpy_parts(message.content)
        self._names = names.app_names(config)
        self._told: dict[str, Any] = records.user_config(config)
        self._layout: Layout = records.read_layout(config)
        _, self._loaded, self._integers = self._layout.split(parameters[0])
        self._buffers = self._loaded
        self._before = copy.deepcopy(context.state)
        self._after: RecordDict | None = None
        self._examples = 1
        self.reported: dict[str, Any] = {}
        self.repeats = False

    @property
    def num_examples(self) -> int:
        """Examples that the app last said it trained on."""
        return self._examples

    @property
    def size(self) -> int:
        """Length p of θ."""
        return self._layout.size

    def draw(self, rng: np.random.Generator) -> int:
        """Draw the seed of this round's generators: the app draws its own batches."""
        return int(rng.integers(2**32))

    def configure(self, config: dict[str, Any]) -> None:
        """Take the config that the next runs of the app get."""
        self._told = config

    def load_buffers(self, values: F32) -> None:
        """Take over the server's buffers: the app finds them in the model."""
        self._loaded = values

    def buffers(self) -> F32:
        """Return the buffers of the model that the app returned last."""
        return self._buffers

    def gradient(self, theta: F32, batch: int) -> F32:
        """Run the app at θ and return θ minus what it made of it."""
        known = loaded_frameworks()
        update = self._run(theta, batch)
        if self.repeats and loaded_frameworks() != known:
            update = self._run(theta, batch)  # imported just now, and unseeded
        return update

    def check_repeatable(self, theta: F32, batch: int) -> None:
        """Run the app twice at one θ and compare.

        Raises
        ------
        LasgError
            If the two updates differ.
        """
        runs = [(self.gradient(theta, batch), self.buffers()) for _ in range(2)]
        self._after = None
        first, second = (update.tobytes() + b.tobytes() for update, b in runs)
        if first != second:
            raise LasgError(
                "this ClientApp does not repeat itself: run twice at the same model "
                "with equal seeds, its updates differ, so it did not draw the same "
                "batches, or masks. Draw all randomness from the global generators of "
                "Python, NumPy or PyTorch, or from a generator that is made anew in "
                "each call, and use deterministic kernels"
            )

    def finish(self, failed: bool = False) -> None:
        """Leave the context with the state that the app's last call made.

        If the round failed, or the app was not needed, it is the state before it.
        """
        kept = None if failed else self._after
        self._replace_state(self._before if kept is None else kept)

    def _run(self, theta: F32, seed: int) -> F32:
        self._replace_state(copy.deepcopy(self._before))
        arrays = self._layout.unflatten(theta, self._loaded, self._integers)
        told = {**self._told, records.SEED_KEY: seed} if self.repeats else self._told
        content = app_records.app_content(arrays, {**self._names, **told})
        message = app_records.with_content(self._message, content)
        with all_seeded(seed):
            reply = self._call_next(message, self._context)
        if reply.has_error():
            raise LasgError(
                f"the ClientApp answered with an error: {names.reason_of(reply.error)}"
            )
        weight = self._names.get(names.APP_WEIGHT_KEY, names.EXAMPLES_KEY)
        made, self._examples, reported = app_records.app_reply(
            reply.content, [e.name for e in self._layout.entries], str(weight)
        )
        self.reported = reported  # the last call is the one at θ^k
        self._after = copy.deepcopy(self._context.state)
        return self._update(theta, made)

    def _update(self, theta: F32, made: Mapping[str, NDArray[Any]]) -> F32:
        try:
            update: F32 = theta - self._layout.flatten(made, "parameter")
            self._buffers = self._layout.flatten(made, "buffer")
            self._layout.integers(made)  # their values stay the server's
            return update
        except ValueError as error:
            raise LasgError(f"the ClientApp returned another model: {error}") from None

    def _replace_state(self, state: RecordDict) -> None:
        self._context.state.clear()
        self._context.state.update(state)
