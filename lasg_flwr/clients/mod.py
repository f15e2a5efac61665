"""`lasg_mod`: make an existing ClientApp lazy without touching it."""

from collections.abc import Iterator
from contextlib import contextmanager

from flwr.app import Context, Message, MessageType

from ..flower import records
from ..protocol import LasgWorker
from . import app_records
from .app_oracle import AppOracle, CallNext
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
    request = records.read_request(parameters, config)
    request = request._replace(config=records.user_config(config))
    key = worker_key(context)
    store = store_for(context, key)
    with store.locked():
        state = store.load(request)
        with _hidden(context):
            oracle = AppOracle(message, context, call_next)
            worker = LasgWorker(oracle, key, state)
            failed = True
            try:
                oracle.repeats = request.settings.rule_object.evaluates_twice
                if state is None and oracle.repeats:
                    oracle.check_repeatable(request.theta, 0)
                reply = worker.handle(request)
                failed = False
            finally:
                oracle.finish(failed)
        if reply is not None:
            store.save(worker.state, request.settings)
    reported = {**oracle.reported, records.UPDATE_KEY: True}
    arrays, metrics = records.reply_parts(reply, reported, with_lists=True)
    content = app_records.fit_result(arrays, oracle.num_examples, metrics)
    return Message(content, reply_to=message)


def _evaluate(message: Message, context: Context, call_next: CallNext) -> Message:
    """Unpack the model for the app, and nothing else."""
    parameters, config = app_records.numpy_parts(message.content)
    arrays = records.read_model(parameters, config)
    content = app_records.app_content(arrays, config, "evaluateins")
    with _hidden(context):
        return call_next(app_records.with_content(message, content), context)


@contextmanager
def _hidden(context: Context) -> Iterator[None]:
    """Take this mod's part out of the state that the app sees."""
    own = context.state.pop(STATE_KEY, None)
    try:
        yield
    finally:
        if own is not None:
            context.state[STATE_KEY] = own
