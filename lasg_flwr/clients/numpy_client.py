"""A Flower NumPyClient around any gradient oracle."""

from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import Context
from flwr.client import Client, NumPyClient
from flwr.common import Code, FitIns, FitRes, NDArrays, Scalar, Status
from numpy.typing import NDArray

from ..checks import whole
from ..config import U64
from ..flower import packed, records, requests
from ..layout import Layout
from ..oracles.base import Oracle
from ..protocol import LasgWorker, WorkerState
from ..protocol.messages import Reply, Request
from ..protocol.serving import no_model
from .exchange import arrays_of, model_to_evaluate, opened
from .state_store import store_for

Evaluate = Callable[
    [dict[str, NDArray[Any]], dict[str, Scalar]],
    tuple[float, int, dict[str, Scalar]],
]


def _fit_packed(self: Any, ins: FitIns) -> FitRes:
    """Let a wrapped NumPyClient train; packed arrays are not copied on their way."""
    arrays = packed.arrays_of(ins.parameters)
    made, examples, metrics = self.numpy_client.fit(arrays, ins.config)
    status, parameters = Status(Code.OK, "Success"), packed.parameters_of(made)
    return FitRes(status, parameters, examples, metrics)


def worker_key(context: Context) -> int:
    """Return a client's key: its ``partition-id`` if it has one, else its node id.

    Seeds and the order of summation hang on the key, so give each device a
    ``partition-id`` of its own where a run must be repeatable.

    Raises
    ------
    ValueError
        If the ``partition-id`` is no integer from 0 to 2**64 − 1.
    """
    value = context.node_config.get("partition-id", context.node_id)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value) if len(value) <= 20 else U64  # 2**64 has twenty digits
    return whole("partition-id", value, most=U64 - 1)


class LasgNumPyClient(NumPyClient):
    """A client that uploads only when the server's rule says so.

    Rule, codec and memory come with each request; nothing is configured here. The
    worker's state lives in ``context.state`` or, where it is large, in a file of the
    node (see `lasg_flwr.clients.state_store`), so that a client may be built anew for
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
        self.worker = LasgWorker(oracle, key or 0)
        self.store = store_for(context, self.worker.key)

    def fit(
        self, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[NDArrays, int, dict[str, Scalar]]:
        """Answer one training request; the state is saved before the reply is made."""
        worker = self.worker
        with opened(self.store, parameters, config) as (head, state, request):
            worker.state = before = state or WorkerState()
            if request is None:
                reply: Reply | None = no_model(head, worker.key, 1, before.model)
            else:
                self._check_layout(request)
                reply = worker.handle(request)
                if worker.state is not before:
                    self.store.save(worker.state, request.settings)
        arrays, values = records.reply_parts(reply, worker.oracle.metrics())
        return arrays, int(worker.oracle.num_examples), values

    def to_client(self) -> Client:
        """Return what Flower makes of this client, with a ``fit`` of our own."""
        flowers = type(super().to_client())
        client: Client = type("PackedClient", (flowers,), {"fit": _fit_packed})(self)
        return client

    def _check_layout(self, request: Request) -> None:
        """Compare the server's layout with the oracle's, where it has one."""
        own = getattr(self.worker.oracle, "layout", None)
        if isinstance(own, Layout):
            Layout.from_json(request.form.layout).check_same(own)

    def evaluate(
        self, parameters: NDArrays, config: dict[str, Scalar]
    ) -> tuple[float, int, dict[str, Scalar]]:
        """Evaluate the model on local data.

        Raises
        ------
        LasgError
            If neither the client nor its oracle can evaluate.
        """
        key, oracle = self.worker.key, self.worker.oracle
        request, told = model_to_evaluate(self.store, key, parameters, config)
        if request is None:
            return 0.0, 0, told
        self._check_layout(request)
        found: Mapping[str, Any]
        if self._evaluate is not None:
            loss, examples, found = self._evaluate(
                arrays_of(request), requests.user_config(config)
            )
        else:
            oracle.load_buffers(request.buffers)
            loss, examples, found = oracle.evaluate(request.theta)
        return float(loss), int(examples), {**records.plain_metrics(found), **told}
