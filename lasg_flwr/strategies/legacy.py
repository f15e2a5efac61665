"""LegacyLasgStrategy: the same server behind Flower's older strategy interface."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flwr.common import (
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    MetricsAggregationFn,
    NDArrays,
    Parameters,
    Scalar,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import Strategy
from flwr.server.strategy.aggregate import weighted_loss_avg

from ..checks import real, whole
from ..config import LasgConfig, config_from
from ..errors import WireError
from ..flower import records, traffic
from ..ledger import Ledger
from ..protocol import LasgServer
from ..protocol.refusals import Refusal
from .core import Core, checked_fraction
from .lasting import WITHOUT_MOD
from .legacy_clients import (
    ConfigFn,
    EvaluateFn,
    aggregated,
    blamed,
    counts,
    node_of,
    refuse_checkpoints,
    user_metrics,
    wait_for_clients,
)
from .model import named_by_position
from .replies import Replies


class LegacyLasgStrategy(Strategy):
    """Lazily aggregated SGD for ``ServerApp(server_fn=...)`` and ``start_server``.

    The same state machine as `LasgStrategy`: rule, codec and the rest are the arguments
    of `lasg_flwr.LasgConfig`. The model's arrays are known by position.

    Parameters
    ----------
    rule, codec, config
        See `LasgStrategy`.
    fraction_fit, fraction_evaluate : float (default: 1.0)
        Share of the connected clients that a round can reach.
    min_fit_clients, min_evaluate_clients, min_available_clients : int (default: 2)
        As in Flower's older `FedAvg`.
    evaluate_fn, on_fit_config_fn, on_evaluate_config_fn : callable, optional
        As in Flower's older `FedAvg`.
    initial_parameters : Parameters, optional
        θ^0; `LasgNumPyClient` has none to offer, so pass it.
    fit_metrics_aggregation_fn, evaluate_metrics_aggregation_fn : callable, optional
        As in Flower's older `FedAvg`.
    accept_failures : bool (default: True)
        Only True: the last upload of a client that failed is used again.
    inplace : bool (default: True)
        Taken for the sake of `FedAvg`'s callers; it changes nothing.
    wait_seconds : float (default: 86400)
        How long a round waits for clients; then it goes on with those that are there.
    leave_after, fail_limit, log_file, tensorboard_dir
        See `LasgStrategy`. There are no checkpoints here: Flower's own loop over the
        rounds cannot be taken up in the middle.
    buffers : iterable of int, optional
        Positions of floating arrays without gradient, as in `LasgStrategy`; left out,
        what looks like BatchNorm's, see `batch_norm_statistics`.
    **options
        Further arguments of `lasg_flwr.LasgConfig`: ``step``, ``seed`` and so on.

    Attributes
    ----------
    ledger : Ledger
        What was sent.

    Examples
    --------
    ::

        strategy = LegacyLasgStrategy("wk2", initial_parameters=parameters, step=0.1)
        start_server(config=ServerConfig(num_rounds=1000), strategy=strategy)
    """

    def __init__(
        self,
        rule: Any = "vr",
        codec: Any = "dense",
        *,
        config: LasgConfig | None = None,
        fraction_fit: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_fit_clients: int = 2,
        min_evaluate_clients: int = 2,
        min_available_clients: int = 2,
        evaluate_fn: EvaluateFn | None = None,
        on_fit_config_fn: ConfigFn | None = None,
        on_evaluate_config_fn: ConfigFn | None = None,
        accept_failures: bool = True,
        initial_parameters: Parameters | None = None,
        fit_metrics_aggregation_fn: MetricsAggregationFn | None = None,
        evaluate_metrics_aggregation_fn: MetricsAggregationFn | None = None,
        inplace: bool = True,
        leave_after: int | None = None,
        fail_limit: int | None = 3,
        wait_seconds: float = 86_400.0,
        log_file: str | Path | None = None,
        tensorboard_dir: str | Path | None = None,
        buffers: Iterable[int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if not accept_failures:
            raise ValueError(
                "accept_failures=False drops whole rounds; here a client that failed "
                "is represented by its last upload: leave it True"
            )
        refuse_checkpoints(options)
        if config is None:
            options = {"rule": rule, "codec": codec, **options}
        self._core = Core(
            config_from(config, options),
            Replies(fail_limit),
            leave_after,
            log_file,
            tensorboard_dir,
        )
        self.buffers = None if buffers is None else [str(int(i)) for i in buffers]
        self.fraction_fit = checked_fraction("fraction_fit", fraction_fit)
        self.fraction_evaluate = checked_fraction(
            "fraction_evaluate", fraction_evaluate
        )
        self.min_fit_clients = whole("min_fit_clients", min_fit_clients)
        self.min_evaluate_clients = whole("min_evaluate_clients", min_evaluate_clients)
        needed = whole("min_available_clients", min_available_clients)
        self.min_available_clients = needed
        self.evaluate_fn = evaluate_fn
        self.on_fit_config_fn = on_fit_config_fn
        self.on_evaluate_config_fn = on_evaluate_config_fn
        self.initial_parameters = initial_parameters
        self.fit_metrics_aggregation_fn = fit_metrics_aggregation_fn
        self.evaluate_metrics_aggregation_fn = evaluate_metrics_aggregation_fn
        self.wait_seconds = real("wait_seconds", wait_seconds, least=0)
        self._handed_out: list[bytes] = []

    def __repr__(self) -> str:
        return f"LegacyLasgStrategy({self._core.config.rule!r})"

    @property
    def server(self) -> LasgServer:
        """The state machine behind this strategy, once a round has started."""
        return self._core.server

    @property
    def ledger(self) -> Ledger:
        """What was sent."""
        return self.server.ledger

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        """Return θ^0, if it was given."""
        self._core.end()
        return self.initial_parameters

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Ask the clients that this round needs."""
        core = self._core
        if not core.is_running:
            self._begin(parameters_to_ndarrays(parameters))
        elif parameters.tensors != self._handed_out:  # a subclass changed them
            named = named_by_position(parameters_to_ndarrays(parameters))
            core.model.replace(core.server, named)
        self._handed_out = list(parameters.tensors)
        proxies = self._sample(client_manager, self.fraction_fit, self.min_fit_clients)
        downloads = core.downloads()
        user = self.on_fit_config_fn(server_round) if self.on_fit_config_fn else {}
        due = core.open(list(proxies))
        asked = []
        for node, request in due:
            ins = FitIns(*downloads.parameters(request, user))
            asked.append((proxies[node], ins))
        core.replies.failures.open([node for node, _ in due])
        core.count(traffic.of_fit_requests(ins for _, ins in asked))
        if not asked:  # Flower goes on without aggregate_fit, but θ moves all the same
            core.report(core.close(), {})
        return asked

    def _begin(self, arrays: NDArrays) -> None:
        self._core.begin(named_by_position(arrays), self.buffers)

    def aggregate_fit(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: list[tuple[ClientProxy, FitRes] | BaseException],
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """Take in the replies, close the round and return θ^{k+1}."""
        core, server = self._core, self.server
        for failure in failures:
            node, reason, code = blamed(failure)
            core.replies.refuse(server, node, Refusal.FAILURE, reason, code)
        core.count(traffic.of_fit_results(result for _, result in results))
        valid = [result for proxy, result in results if self._keep(proxy, result)]
        kept = [(result.num_examples, user_metrics(result)) for result in valid]
        report = core.close()
        metrics: dict[str, Scalar] = {}
        if kept and self.fit_metrics_aggregation_fn:
            metrics = aggregated(self.fit_metrics_aggregation_fn, kept)
        core.report(report, metrics)
        metrics.update(server.ledger.as_metrics())
        parameters = ndarrays_to_parameters(self.arrays())
        self._handed_out = list(parameters.tensors)
        return parameters, metrics

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        """Send the model to be evaluated."""
        if self.fraction_evaluate == 0.0:
            return []
        core, hook = self._core, self.on_evaluate_config_fn
        proxies = self._sample(
            client_manager, self.fraction_evaluate, self.min_evaluate_clients
        )
        user = hook(server_round) if hook else {}
        downloads, asked = core.downloads(), []
        for node, request in core.evaluate(list(proxies)):
            ins = EvaluateIns(*downloads.parameters(request, user))
            asked.append((proxies[node], ins))
        return asked

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: list[tuple[ClientProxy, EvaluateRes] | BaseException],
    ) -> tuple[float | None, dict[str, Scalar]]:
        """Average the clients' losses, weighted by their examples."""
        server = self.server
        valid = [r for p, r in results if r.num_examples > 0 and counts(server, p, r)]
        if not valid:
            return None, {}
        loss = weighted_loss_avg([(r.num_examples, r.loss) for r in valid])
        metrics: dict[str, Scalar] = {}
        if self.evaluate_metrics_aggregation_fn:
            pairs = [(r.num_examples, user_metrics(r)) for r in valid]
            metrics = aggregated(self.evaluate_metrics_aggregation_fn, pairs)
        found = {"loss": loss, **metrics}
        self._core.note("evaluate_metrics", server_round, found)
        return loss, metrics

    def evaluate(
        self, server_round: int, parameters: Parameters
    ) -> tuple[float, dict[str, Scalar]] | None:
        """Evaluate on the server, if there is an `evaluate_fn`."""
        if self.evaluate_fn is None:
            return None
        arrays = parameters_to_ndarrays(parameters)
        if self._core.is_running:
            arrays = self.arrays()
        return self.evaluate_fn(server_round, arrays, {})

    def arrays(self) -> NDArrays:
        """Return the current model; Flower's own copy lags behind a silent round."""
        return list(self._core.model.arrays(self.server).values())

    def _sample(
        self, manager: ClientManager, fraction: float, minimum: int
    ) -> dict[int, ClientProxy]:
        """Return the clients that a round can reach, by node, in a repeatable order."""
        needed = max(self.min_available_clients, minimum)
        proxies = wait_for_clients(manager, needed, self.wait_seconds)
        chosen = self._core.sample(proxies, fraction, minimum)
        return {node: proxies[node] for node in chosen}

    def _keep(self, proxy: ClientProxy, result: FitRes) -> bool:
        server, node = self.server, node_of(proxy.cid)
        try:
            reply = records.read_fit_result(result)
        except WireError as error:
            self._core.replies.refuse(server, node, Refusal.MALFORMED, str(error))
            return False
        if reply is None and any(result.parameters.tensors):
            replies = self._core.replies
            replies.refuse(server, node, Refusal.MALFORMED, WITHOUT_MOD)
            return False
        is_update = result.metrics.get(records.UPDATE_KEY) is True
        return self._core.replies.judge(server, node, reply, is_update)
