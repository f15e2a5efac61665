"""An existing ClientApp as a gradient oracle: its update of the model."""

import copy
from collections.abc import Callable
from typing import Any

from flwr.app import Context, Message, RecordDict
from numpy.typing import NDArray

from ..errors import LasgError
from ..flower import names
from ..protocol.messages import Request
from ..vectors import F32
from . import app_records
from .update_oracle import Trained, UpdateOracle

CallNext = Callable[[Message, Context], Message]


class AppOracle(UpdateOracle):
    """Pseudo-gradients of a ClientApp.

    The app gets the `Context.state` that it had before the round, in every run; the
    state after the run at θ^k is kept, unless the round fails.

    Parameters
    ----------
    message : Message
        The server's training request.
    context : Context
        The client's context.
    call_next : callable
        The app, or the next mod.
    request : Request
        What the message says.
    """

    def __init__(
        self,
        message: Message,
        context: Context,
        call_next: CallNext,
        request: Request,
    ) -> None:
        super().__init__(request)
        _, config = app_records.numpy_parts(message.content)
        self._message = message
        self._context = context
        self._call_next = call_next
        self._names = names.app_names(config)
        self._before = copy.deepcopy(context.state)
        self._after: RecordDict | None = None

    def check_repeatable(self, theta: F32, batch: int) -> None:
        """Run the app twice at one θ and compare; its states are not kept."""
        super().check_repeatable(theta, batch)
        self._after = None

    def finish(self, failed: bool = False) -> None:
        """Leave the context with the state that the app's last call made.

        If the round failed, or the app was not needed, it is the state before it.
        """
        kept = None if failed else self._after
        self._replace_state(self._before if kept is None else kept)

    def train(self, arrays: dict[str, NDArray[Any]], config: dict[str, Any]) -> Trained:
        """Hand a message with the model to the app.

        Raises
        ------
        LasgError
            If it answers with an error, or without a model.
        """
        self._replace_state(copy.deepcopy(self._before))
        content = app_records.app_content(arrays, {**self._names, **config})
        reply = self._call_next(
            app_records.with_content(self._message, content), self._context
        )
        if reply.has_error():
            raise LasgError(
                f"the ClientApp answered with an error: {names.reason_of(reply.error)}"
            )
        weight = self._names.get(names.APP_WEIGHT_KEY, names.EXAMPLES_KEY)
        made = app_records.app_reply(
            reply.content, [e.name for e in self.layout.entries], str(weight)
        )
        self._after = copy.deepcopy(self._context.state)
        return Trained(*made)

    def _replace_state(self, state: RecordDict) -> None:
        self._context.state.clear()
        self._context.state.update(state)
