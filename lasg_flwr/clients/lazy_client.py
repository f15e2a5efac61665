"""`lasg_client`: make an existing client lazy where there is no ClientApp for a mod."""

import secrets
from collections.abc import Callable
from contextlib import nullcontext
from logging import ERROR
from typing import Any, TypeVar

from flwr.app import Context
from flwr.client import Client, NumPyClient
from flwr.common import (
    Code,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Parameters,
    Status,
    log,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from numpy.typing import NDArray

from ..checks import MOST_EXAMPLES
from ..errors import LasgError
from ..flower import packed, records, requests
from ..protocol.messages import Request
from .exchange import arrays_of, model_to_evaluate, trained
from .numpy_client import worker_key
from .state_store import store_for
from .update_oracle import Trained, UpdateOracle

_NOTHING = Parameters([], "numpy.ndarray")
_KEYS = 1 << 63
T = TypeVar("T")


def lasg_client(
    client: Client | NumPyClient,
    context: Context | None = None,
    *,
    key: int | None = None,
) -> Client:
    """Answer a `LegacyLazyFedAvg` on behalf of a client that knows nothing of it.

    For ``start_client``, where there is no ClientApp that could have `lasg_mod`. The
    client gets the arrays that it expects and returns them trained; the difference is
    what is coded, or not sent. Requests of other strategies pass through.

    Parameters
    ----------
    client : Client or NumPyClient
        The client.
    context : Context, optional
        Where ``client_fn`` builds the client anew for every message: its context, which
        keeps the worker's state.
    key : int, optional
        The worker's key, ``0 <= key < 2**64``, of its own for each client. Left out, it
        is the context's, see `worker_key`, or a random one; a run that is to be
        repeated to the bit needs keys.

    Returns
    -------
    Client
        To be passed to ``start_client(client=...)``. Where the client fails, its answer
        says why, and it goes on.

    Examples
    --------
    ::

        start_client(server_address=address, client=lasg_client(FlowerClient()))
    """
    if key is None:
        key = secrets.randbelow(_KEYS) if context is None else worker_key(context)
    return LazyClient(client.to_client(), context, key)


class ClientOracle(UpdateOracle):
    """Pseudo-gradients of a client's ``fit``."""

    def __init__(self, client: Client, request: Request) -> None:
        super().__init__(request)
        self._client = client

    def train(self, arrays: dict[str, NDArray[Any]], config: dict[str, Any]) -> Trained:
        """Let the client fit.

        Raises
        ------
        LasgError
            If it fails, or has another number of arrays, or no examples.
        """
        given = ndarrays_to_parameters(list(arrays.values()))
        result = self._client.fit(FitIns(given, config))
        if result.status.code != Code.OK:
            raise LasgError(f"the client failed: {result.status.message}")
        made = parameters_to_ndarrays(result.parameters)
        if len(made) != len(arrays):
            raise LasgError(
                f"the client returned {len(made)} arrays, the model has {len(arrays)}: "
                "return the whole model, in the form in which it came"
            )
        if not 1 <= result.num_examples <= MOST_EXAMPLES:
            raise LasgError(
                f"the client reported {result.num_examples} training examples: a "
                "client without training data cannot take part"
            )
        named = dict(zip(arrays, made, strict=True))
        return Trained(named, result.num_examples, dict(result.metrics))


class LazyClient(Client):
    """What `lasg_client` returns."""

    def __init__(self, client: Client, context: Context | None, key: int) -> None:
        self._client = client
        self._key = key
        self._store = store_for(context, key)

    def get_properties(self, ins: GetPropertiesIns) -> GetPropertiesRes:
        """Ask the client."""
        return self._client.get_properties(ins)

    def get_parameters(self, ins: GetParametersIns) -> GetParametersRes:
        """Ask the client."""
        return self._client.get_parameters(ins)

    def fit(self, ins: FitIns) -> FitRes:
        """Answer one training request."""
        if records.HEADER_KEY not in ins.config:
            return self._client.fit(ins)
        return _or_failure(lambda: self._fit(ins), _failed_fit)

    def _fit(self, ins: FitIns) -> FitRes:
        answer = trained(
            self._store,
            self._key,
            packed.arrays_of(ins.parameters),
            ins.config,
            lambda request: ClientOracle(self._client, request),
            nullcontext(),
        )
        return FitRes(
            Status(Code.OK, "Success"),
            packed.parameters_of(answer.arrays),
            answer.examples,
            answer.metrics,
        )

    def evaluate(self, ins: EvaluateIns) -> EvaluateRes:
        """Let the client evaluate the model."""
        if records.HEADER_KEY not in ins.config:
            return self._client.evaluate(ins)
        return _or_failure(lambda: self._evaluate(ins), _failed_evaluation)

    def _evaluate(self, ins: EvaluateIns) -> EvaluateRes:
        given = packed.arrays_of(ins.parameters)
        request, told = model_to_evaluate(self._store, self._key, given, ins.config)
        if request is None:
            return EvaluateRes(Status(Code.OK, "Success"), 0.0, 0, told)
        arrays = list(arrays_of(request).values())
        config = requests.user_config(ins.config)
        made = self._client.evaluate(
            EvaluateIns(ndarrays_to_parameters(arrays), config)
        )
        made.metrics = {**made.metrics, **told}
        return made


def _or_failure(answer: Callable[[], T], failed: Callable[[Status], T]) -> T:
    """Return an answer; the server is told of an exception, and the client lives on."""
    try:
        return answer()
    except Exception as error:
        log(ERROR, "lasg: this client fails in this round", exc_info=error)
        reason = f"{type(error).__name__}: {error}"
        return failed(Status(Code.FIT_NOT_IMPLEMENTED, reason))


def _failed_fit(status: Status) -> FitRes:
    return FitRes(status, _NOTHING, 0, {})


def _failed_evaluation(status: Status) -> EvaluateRes:
    return EvaluateRes(status, 0.0, 0, {})
