"""A Flower NumPyClient around any gradient oracle."""

from collections.abc import Callable
from logging import WARNING
from typing import Any

from flwr.app import Context
from flwr.client import NumPyClient
from flwr.common import NDArrays, Scalar, log
from numpy.typing import NDArray

from .. import records, worker_state
from ..errors import CheckpointError, LasgError
from ..oracle import Oracle
from ..worker import LasgWorker, WorkerState

Evaluate = Callable[
    [dict[str, NDArray[Any]], dict[str, Scalar]],
    tuple[float, int, dict[str, Scalar]],
]


def worker_key(context: Context) -> int:
    """Return a client's key: its ``partition-id`` if it has one, else its node id.

    Seeds and the order of summation hang on the key, so give each device a
    ``partition-id`` of its own where a run must be repeatable.

    Raises
    ------
    ValueError
        If the ``partition-id`` is not an integer >= 0.
    """
    value = context.node_config.get("partition-id", context.node_id)
    try:
        key = int(value)
    except ValueError:
        key = -1
    if isinstance(value, bool | float) or key < 0:
        raise ValueError(f"partition-id must be an integer >= 0, got {value!r}")
    return key


def load_worker_state(context: Context) -> WorkerState | None:
    """Return the worker's state in a context; None if there is none that is whole."""
    data = records.load_state(context.state)
    if data is None:
        return None
    try:
        return worker_state.load(data)
    except CheckpointError as error:
        log(WARNING, "lasg: %s; starting anew, the server will refresh it", error)
        return None


def save_worker_state(context: Context, state: WorkerState) -> None:
    """Put the worker's state into a context."""
    records.save_state(context.state, worker_state.dump(state))


class LasgNumPyClient(NumPyClient):
    """A client that uploads only when the server's rule says so.

    Rule, codec and memory come with each request; nothing is configured here. The
    worker's state lives in ``context.state``, so that a client may be built anew for
    every message, as ``ClientApp(client_fn=...)`` does.

    Parameters
    ----------
    oracle : Oracle
        The client's data and loss.
    context : Context, optional
        What Flower hands to ``client_fn``. Left out, the state lives in this object.
    key : int, optional
        The worker's key; left out, see `worker_key`.
    evaluate : callable, optional
        ``evaluate(arrays, config) -> (loss, num_examples, metrics)`` on local test
        data; left out, the oracle's own ``evaluate(theta)`` is used if it has one.

    Examples
    --------
    ::

        def client_fn(context: Context):
            oracle = MyOracle(context.node_config["partition-id"])
            return LasgNumPyClient(oracle, context).to_client()

        app = ClientApp(client_fn=client_fn)
    """

    def __init__(
        self,
        oracle: Oracle,
        context: Context | None = None,
        *,
        key: int | None = None,
        evaluate: Evaluate | None = None,
    ) -> None:
        if key is None and context is None:
            raise ValueError("pass the client's context, or a key of its own")
        if key is None and context is not None:
            key = worker_key(context)
        self.context = context
        self._evaluate = evaluate
        state = None if context is None else load_worker_state(context)
        self.worker = LasgWorker(oracle, key or 0, state)

    def fit(
        self, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[NDArrays, int, dict[str, Scalar]]:
        """Answer one training request; the state is saved before the reply is made."""
        request = records.read_request(parameters, config)
        oracle = self.worker.oracle
        if hasattr(oracle, "configure"):
            oracle.configure(records.user_config(config))
        reply = self.worker.handle(request)
        if self.context is not None and reply is not None:
            save_worker_state(self.context, self.worker.state)
        metrics = oracle.metrics() if hasattr(oracle, "metrics") else {}
        arrays, values = records.reply_parts(reply, metrics)
        return arrays, oracle.num_examples, values

    def evaluate(
        self, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[float, int, dict[str, Scalar]]:
        """Evaluate the model on local data.

        Raises
        ------
        LasgError
            If neither the client nor its oracle can evaluate.
        """
        arrays = records.read_model(parameters, config)
        if self._evaluate is not None:
            return self._evaluate(arrays, records.user_config(config))
        oracle = self.worker.oracle
        if not hasattr(oracle, "evaluate"):
            raise LasgError(
                "this client cannot evaluate: pass evaluate=... to LasgNumPyClient, or "
                "fraction_evaluate=0.0 to the strategy"
            )
        theta = records.read_layout(config).flatten(arrays, "parameter")
        loss, examples, metrics = oracle.evaluate(theta)
        return float(loss), int(examples), dict(metrics)
