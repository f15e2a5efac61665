"""The workers of an in-process engine answer: each by itself, or all in one call."""

from collections.abc import Sequence

from ..errors import NotTogetherError
from ..oracles import BatchedGradient
from ..oracles.base import taken
from .messages import Reply, Request
from .server import LasgServer
from .serving import Task
from .worker import LasgWorker

_MOST_NUMBERS = 1 << 25
"""How many numbers the gradients of one call may have, for one point of each worker."""


class Answers:
    """How the workers of an engine answer: each by itself, or all in one call.

    Attributes
    ----------
    not_batched : str
        Why they answer each by itself; empty if they do not.
    """

    def __init__(
        self,
        workers: Sequence[LasgWorker],
        server: LasgServer,
        batched: bool | None,
        given: BatchedGradient | None,
    ) -> None:
        self._workers, self._server = workers, server
        self._must = bool(batched) or given is not None
        self._together = given
        self._at_once = len(workers)
        self.not_batched = "batched=False" if batched is False else ""
        values = server.buffers.size
        if self._must and values:
            name = "batched" if given is None else "batched_gradient"
            raise ValueError(
                f"{name} cannot move the model's {values} buffer values: leave it out, "
                "so that each oracle computes its own gradient"
            )
        if given is None and not self.not_batched:
            self._find(values)

    def _find(self, buffer_values: int) -> None:
        oracles = [worker.oracle for worker in self._workers]
        try:
            if buffer_values:
                raise NotTogetherError("the model has buffers")
            if len(oracles) == 1:
                raise NotTogetherError("there is one worker")
            self._together = oracles[0].together(oracles)
        except NotTogetherError as error:
            self._give_up(error)
        self._at_once = max(2, _MOST_NUMBERS // self._server.theta.size)

    def _give_up(self, error: NotTogetherError) -> None:
        if self._must:
            raise error
        self._together, self.not_batched = None, str(error)

    def take(self, requests: Sequence[tuple[int, Request]]) -> None:
        """Hand the server what the workers answer to the requests of a round."""
        for start in range(0, len(requests), self._at_once):
            some = requests[start : start + self._at_once]
            if self._together is not None:
                try:
                    _answer_together(self._server, self._workers, some, self._together)
                    continue
                except NotTogetherError as error:
                    self._give_up(error)
            _answer_one_by_one(self._server, self._workers, some)


def _answer_one_by_one(
    server: LasgServer,
    workers: Sequence[LasgWorker],
    requests: Sequence[tuple[int, Request]],
) -> None:
    for node, request in requests:
        reply = workers[node].handle(request)
        if reply is not None:
            server.receive(node, reply)


def _answer_together(
    server: LasgServer,
    workers: Sequence[LasgWorker],
    requests: Sequence[tuple[int, Request]],
    batched_gradient: BatchedGradient,
) -> None:
    tasks: list[tuple[int, Task]] = []
    for node, request in requests:
        task = workers[node].begin(request)
        if isinstance(task, Reply):
            server.receive(node, task)
        elif task is not None:
            tasks.append((node, task))
    points = [(node, task.request.theta, task.batch) for node, task in tasks]
    points += [
        (node, task.reference_point, task.batch)
        for node, task in tasks
        if task.reference_point is not None
    ]
    if not points:
        return
    nodes, thetas, batches = zip(*points, strict=True)
    gradients = batched_gradient(nodes, thetas, batches)
    references = iter(gradients[len(tasks) :])
    for (node, task), gradient in zip(tasks, gradients, strict=False):
        reference, theta = None, task.request.theta
        if task.reference_point is not None:
            reference = taken(next(references), theta, workers[node].key)
        server.receive(node, workers[node].finish(task, gradient, reference))
