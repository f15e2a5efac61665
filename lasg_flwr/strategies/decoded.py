"""Replies as a subclass of a strategy expects them: with trained arrays in them."""

from collections.abc import Iterable
from copy import copy
from logging import WARNING

import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.common import log

from ..errors import LasgError
from ..flower import records
from ..memory.per_worker import PerWorker, held_by
from ..protocol import LasgServer
from ..protocol.messages import Reply, Request
from ..protocol.rounds import decoded
from ..vectors import F32
from .model import Model

METRICS_KEY = "metrics"


class DecodedReplies:
    """Adds to each reply the model that its worker trained, as the server decodes it.

    That is θ^k − h_m: under error feedback h_m is what this reply's upload decodes to,
    otherwise what the server holds of the worker once the round has closed. The copies
    are for reading. Whoever leaves a reply out of what it passes on leaves the worker
    out of the round; what it changes in a reply's arrays has no effect, and is warned
    of.

    Parameters
    ----------
    key : str
        Name of the record with the arrays.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._requests: dict[int, Request] = {}
        self._made: dict[int, tuple[Message, Message, ArrayRecord]] = {}

    def open(self, requests: Iterable[tuple[int, Request]]) -> None:
        """Begin a round."""
        self._requests = dict(requests)
        self._made = {}

    def hand_out(
        self, replies: Iterable[Message], server: LasgServer, model: Model
    ) -> list[Message]:
        """Return the replies, those that can be decoded with arrays and metrics."""
        return [self._with_arrays(reply, server, model) for reply in replies]

    def taken_back(self, replies: Iterable[Message]) -> list[Message]:
        """Return the replies as they arrived."""
        originals = []
        for reply in replies:
            original, _, arrays = self._made.get(id(reply), (reply, reply, None))
            if arrays is not None and reply.content.get(self._key) != arrays:
                log(
                    WARNING,
                    "lasg: aggregate_train changed the arrays of a reply: that has no "
                    "effect; change the arrays that super().aggregate_train returns, "
                    "or leave whole replies out",
                )
            originals.append(original)
        return originals

    def _with_arrays(
        self, message: Message, server: LasgServer, model: Model
    ) -> Message:
        if message.has_error():
            return message
        node = message.metadata.src_node_id
        try:
            request, reply = self._requests[node], records.read_reply(message.content)
            metrics = records.train_metrics(message.content)
            if reply is None or reply.kind == "no-model":
                return message
            update = _update(server, request, reply, node)
        except (KeyError, LasgError):
            return message  # the server refuses it, and says why
        trained = request.theta - update
        arrays = records.named_arrays(
            model.layout.unflatten(trained, request.buffers, model.integers)
        )
        made = copy(message)
        made.content = RecordDict(dict(message.content))
        made.content[self._key] = arrays
        made.content[METRICS_KEY] = metrics[METRICS_KEY]
        self._made[id(made)] = (message, made, ArrayRecord(dict(arrays)))
        return made


def _update(server: LasgServer, request: Request, reply: Reply, node: int) -> F32:
    """Return the h_m that a reply stands for."""
    size = request.theta.size
    vector = None if reply.kind == "skip" else decoded(request, reply).decoded
    if vector is not None and reply.kind == "full":
        return vector
    member = server.roster.at(node)
    if member is None or not isinstance(server.memory, PerWorker):
        raise KeyError("nothing is held of this worker")
    held = held_by(member, size)
    return held if vector is None else np.add(held, vector, dtype=np.float32)
