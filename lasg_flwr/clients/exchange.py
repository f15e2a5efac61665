"""A request at a client: the state before it, the model that it is about."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from flwr.common import Scalar
from numpy.typing import NDArray

from ..flower import records, requests
from ..layout import Layout
from ..protocol import LasgWorker, WorkerState
from ..protocol.heads import Head
from ..protocol.messages import Reply, Request
from ..protocol.serving import evaluated, no_model
from .state_store import StateStore
from .update_oracle import UpdateOracle


@contextmanager
def opened(
    store: StateStore, parameters: list[NDArray[Any]], config: Mapping[str, Scalar]
) -> Iterator[tuple[Head, WorkerState | None, Request | None]]:
    """Read a request beside the state that it meets, other processes kept out.

    Parameters
    ----------
    store : StateStore
        Where the worker's state is.
    parameters, config
        What the client got.

    Yields
    ------
    head, state, request
        The state is None where there is none; the request is None where it carries
        steps and no model is held that they could lead on from.
    """
    head = requests.read_head(config)
    with store.locked():
        state = store.load(head, requests.read_settings(config))
        held = None if state is None else state.model
        yield head, state, requests.read_request(parameters, config, held)


class FitAnswer(NamedTuple):
    """A training reply: at most one packed array, the examples, and the metrics."""

    arrays: list[NDArray[Any]]
    examples: int
    metrics: dict[str, Scalar]


def trained(
    store: StateStore,
    key: int,
    parameters: list[NDArray[Any]],
    config: Mapping[str, Scalar],
    oracle_of: Callable[[Request], UpdateOracle],
    around: AbstractContextManager[None],
    with_lists: bool = False,
) -> FitAnswer:
    """Answer a training request with what somebody else's training makes of it.

    Parameters
    ----------
    store : StateStore
        Where the worker's state is.
    key : int
        The worker's.
    parameters, config
        What the client got.
    oracle_of : callable
        Returns the training as an oracle, for a request.
    around : context manager
        Holds while it trains, not while states are loaded and saved.
    with_lists : bool (default: False)
        Whether metrics that are lists of numbers can be sent.
    """
    reported: dict[str, Any] = {}
    examples = 1
    with opened(store, parameters, config) as (head, state, request):
        if request is None:
            held = None if state is None else state.model
            reply: Reply | None = no_model(head, key, examples, held)
        else:
            with around:
                oracle = oracle_of(request)
                worker = LasgWorker(oracle, key, state)
                before = worker.state
                reply = _handled(worker, oracle, request, state is None)
            if worker.state is not before:
                store.save(worker.state, request.settings)
            reported, examples = oracle.reported, oracle.num_examples
    told = {**reported, records.UPDATE_KEY: True}
    arrays, metrics = records.reply_parts(reply, told, with_lists)
    return FitAnswer(arrays, examples, metrics)


def _handled(
    worker: LasgWorker, oracle: UpdateOracle, request: Request, first: bool
) -> Reply | None:
    """Answer a request; if that fails, the app's state is as it was."""
    failed = True
    try:
        oracle.repeats = request.settings.rule_object.evaluates_twice
        if first and oracle.repeats:
            oracle.check_repeatable(request.theta, 0)
        reply = worker.handle(request)
        failed = False
    finally:
        oracle.finish(failed)
    return reply


def model_to_evaluate(
    store: StateStore,
    key: int,
    parameters: list[NDArray[Any]],
    config: Mapping[str, Scalar],
) -> tuple[Request | None, dict[str, Scalar]]:
    """Return the model that an evaluation is about, and what to tell the server.

    Where downloads are coded, the worker holds this model from now on.

    Returns
    -------
    request : Request or None
        With θ and buffers to evaluate; None where they are out of reach.
    told : dict
        An entry for the metrics of the reply.
    """
    if requests.read_head(config).model is None:
        return requests.read_request(parameters, config), {}
    with opened(store, parameters, config) as (head, state, request):
        state, found, reply = evaluated(state or WorkerState(), key, head, request)
        if found is not None:
            store.save(state, found.settings)
    return found, {} if reply is None else {records.HEADER_KEY: reply.header()}


def arrays_of(request: Request) -> dict[str, NDArray[Any]]:
    """Return the model of a request as named arrays."""
    layout = Layout.from_json(request.form.layout)
    return layout.unflatten(request.theta, request.buffers, request.form.integers)
