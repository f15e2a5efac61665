"""`lasg_mod`: make an existing ClientApp lazy without touching it."""

from collections.abc import Iterator
from contextlib import contextmanager

from flwr.app import ConfigRecord, Context, Message, MessageType

from ..flower import records
from ..flower.names import SHORT_KEY
from . import app_records
from .app_oracle import AppOracle, CallNext
from .exchange import arrays_of, model_to_evaluate, trained
from .numpy_client import worker_key
from .state_store import STATE_KEY, store_for


def lasg_mod(message: Message, context: Context, call_next: CallNext) -> Message:
    """Answer a `LasgStrategy` on behalf of a ClientApp that knows nothing of it.

    The app gets the model as it expects it, and returns it trained; the difference is
    the pseudo-gradient u = θ^k − θ_local that the rule works on. For WK1, WK2, PSE and
    VR the app runs a second time, at the older iterate, with all generators seeded
    alike.
    The server's step for it is 1: ``LasgStrategy("wk2", step=1.0)``.

    Works around Message-API apps, which find the model in ``"arrays"`` and the config
    in ``"config"``, and around ``ClientApp(client_fn=...)``. Messages of other
    strategies, and other messages, pass through.

    For WK1, WK2, PSE and VR the app must repeat itself to the bit where the global
    generators of Python, NumPy, PyTorch and TensorFlow are seeded alike; at the first
    contact it runs twice at the same model to see that it does. JAX has no global
    generator: make its key from the config's ``"lasg-seed"``. Whether a device's
    kernels are deterministic is its own affair: see
    ``torch.use_deterministic_algorithms``. Arrays that the model's layout calls buffers
    (BatchNorm statistics) go to the server as values, integer arrays stay as the
    server has them.

    The ledger's gradient evaluations count 1 for each run of the app, however many
    steps it takes, and not the two runs of the first contact's check.

    Parameters
    ----------
    message : Message
        From the server.
    context : Context
        The client's; this mod's part of its state is hidden from the app.
    call_next : callable
        The app, or the next mod.

    Raises
    ------
    LasgError
        If the app does not repeat itself, returns another model or an error. The
        client's state is then as it was before the round.

    Examples
    --------
    ::

        app = ClientApp(mods=[lasg_mod])                # Message API
        app = ClientApp(client_fn, mods=[lasg_mod])     # NumPyClient
    """
    if message.metadata.message_type == MessageType.TRAIN:
        if app_records.is_train_request(message.content):
            return _train(message, context, call_next)
    elif message.metadata.message_type == MessageType.EVALUATE and (
        app_records.is_evaluate_request(message.content)
    ):
        return _evaluate(message, context, call_next)
    return call_next(message, context)


def _train(message: Message, context: Context, call_next: CallNext) -> Message:
    parameters, config = app_records.numpy_parts(message.content)
    key = worker_key(context)
    made = trained(
        store_for(context, key),
        key,
        parameters,
        config,
        lambda request: AppOracle(message, context, call_next, request),
        _hidden(context),
        with_lists=True,
    )
    short = config.get(SHORT_KEY) is True
    return Message(app_records.fit_result(*made, short), reply_to=message)


def _evaluate(message: Message, context: Context, call_next: CallNext) -> Message:
    """Unpack the model for the app, and say what is held of it."""
    parameters, config = app_records.numpy_parts(message.content)
    key = worker_key(context)
    store = store_for(context, key)
    request, told = model_to_evaluate(store, key, parameters, config)
    if request is None:
        content = app_records.evaluate_result(0.0, 0, told)
        return Message(content, reply_to=message)
    content = app_records.app_content(arrays_of(request), config, "evaluateins")
    with _hidden(context):
        reply = call_next(app_records.with_content(message, content), context)
    if told and not reply.has_error():
        reply.content[records.HEADER_KEY] = ConfigRecord(dict(told))
    return reply


@contextmanager
def _hidden(context: Context) -> Iterator[None]:
    """Take this mod's part out of the state that the app sees."""
    own = context.state.pop(STATE_KEY, None)
    try:
        yield
    finally:
        if own is not None:
            context.state[STATE_KEY] = own
