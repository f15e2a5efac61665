"""A Flower Grid that calls the ClientApp in this process."""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from itertools import count
from threading import Lock
from types import SimpleNamespace
from typing import Any

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid


def _identify() -> None:
    """Say who makes messages; releases before 1.38 set it when they are pushed."""
    try:
        identity = import_module("flwr.supercore.task_identity").TaskIdentity
    except ModuleNotFoundError:
        return
    identity.run_id, identity.node_id, identity.task_id = 1, 1, 1


class InProcessGrid(Grid):
    """Runs every message at once, each node with a Context of its own.

    Parameters
    ----------
    app : callable
        The ClientApp, or anything that is called like one.
    partitions : int
        Number of nodes; node ids are made to differ from partition ids in order.
    shuffle_seed : int, optional
        Deliver replies in a random order.
    run_config : mapping, optional
        The run's configuration, as the app finds it in its Context.
    """

    def __init__(
        self,
        app: Callable[[Message, Context], Message],
        partitions: int,
        shuffle_seed: int | None = None,
        run_config: Mapping[str, Any] | None = None,
    ) -> None:
        _identify()
        self.app = app
        self.contexts = {
            1000 - 7 * partition: Context(
                run_id=1,
                node_id=1000 - 7 * partition,
                node_config={"partition-id": partition, "num-partitions": partitions},
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for partition in range(partitions)
        }
        self._ids = count(1)
        self._lock = Lock()  # Flower's older server asks from several threads
        self._rng = (
            None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
        )
        self.silent: set[int] = set()
        self.pulls = 0
        self._ready: dict[str, Message] = {}
        self.requests: list[Message] = []
        self.replies: list[Message] = []

    def set_run(self, run: Any) -> None:
        """Not needed: there is one run."""
        raise NotImplementedError

    @property
    def run(self) -> Any:
        """The one run, as far as Flower's older server looks at it."""
        return SimpleNamespace(run_id=1)

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Not needed: messages are made by their class."""
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes: they are always connected."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Answer at once; nodes in `silent` never do."""
        ids = []
        for message in messages:
            reply = self._deliver(message)
            ids.append(message.metadata.message_id)
            if message.metadata.dst_node_id not in self.silent:
                self._ready[ids[-1]] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the answers to these messages, once."""
        self.pulls += 1
        found = [self._ready.pop(i) for i in list(message_ids) if i in self._ready]
        self.replies.extend(found)
        return found

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Answer at once, `silent` nodes included."""
        replies = [self._deliver(message) for message in messages]
        if self._rng is not None:
            replies = [replies[i] for i in self._rng.permutation(len(replies))]
        self.replies.extend(replies)
        return replies

    def _deliver(self, message: Message) -> Message:
        message.metadata.__dict__["_message_id"] = str(next(self._ids))
        self.requests.append(message)
        try:
            with self._lock:
                return self.app(message, self.contexts[message.metadata.dst_node_id])
        except Exception as error:
            return Message(
                Error(2, f"{type(error).__name__}: {error}"), reply_to=message
            )
