"""LazyFedAvg: in the place of Flower's FedAvg, with a twentieth of its bytes."""

from logging import INFO, WARNING
from typing import Any

from flwr.common import log

from ..flower import records
from .efforts import Effort, settings_for
from .lasg import LasgStrategy
from .reports import MetricsAggregation


class LazyFedAvg(LasgStrategy):
    """Federated averaging of coded updates; the app keeps training as it does.

    θ^{k+1} = θ^k − Σ n_m ĥ_m / Σ n_m over the workers that replied, where ĥ_m is what
    worker m's coded update u_m decodes to (the model that it got, minus what it made of
    it), and n_m its present number of examples. What coding leaves out of u_m goes into
    the worker's next upload; the model goes down as coded steps. The first ten rounds
    get 2 bits a number at least in both directions, the next ten 1 bit, and so on: what
    comes late in them costs a short run the most, and a long one they cost little. With
    ``codec="dense"`` and ``downlink="dense"`` that is `FedAvg`, to rounding.

    The first ten parameters are those of Flower's `FedAvg`, in its order.

    Parameters
    ----------
    fraction_train, fraction_evaluate : float (default: 1.0)
        Share of the connected nodes in a round.
    min_train_nodes, min_evaluate_nodes, min_available_nodes : int (default: 2)
        As in `FedAvg`.
    weighted_by_key : str (default: "num-examples")
        The metric of an app's reply that weighs its update and its other metrics.
    arrayrecord_key, configrecord_key : str (default: "arrays", "config")
        Under which names the app finds model and config.
    train_metrics_aggr_fn, evaluate_metrics_aggr_fn : callable, optional
        As in `FedAvg`.
    effort : {"one-run", "two-runs"} (default: "one-run")
        How often the app runs in a round. Two runs, at two models and with equal
        batches, let a worker skip uploads (``"vr:c=1.5,growth=0"``) and leave more out
        of those it sends (``"ecsq:error=0.5,least_bits=2,rounds=10"``); the app must
        repeat itself where Python's, NumPy's and its framework's generators are seeded
        alike.
    **options
        Further arguments of `LasgStrategy`, such as ``codec="dense"``, ``seed`` or
        ``checkpoint_dir``; they win over what `effort` chooses.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `LasgStrategy` does.

    Notes
    -----
    A subclass may override what it may of `FedAvg`. Arrays that it changes, in
    `configure_train` or in what `aggregate_train` returns, are what the next round
    starts from; replies that `aggregate_train` gets have the trained models in them,
    as decoded.

    Examples
    --------
    ::

        strategy = LazyFedAvg(fraction_evaluate=0.5)  # instead of FedAvg(...)
        app = ClientApp(mods=[lasg_mod])              # instead of ClientApp()
    """

    def __init__(
        self,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_train_nodes: int = 2,
        min_evaluate_nodes: int = 2,
        min_available_nodes: int = 2,
        weighted_by_key: str = records.EXAMPLES_KEY,
        arrayrecord_key: str = records.ARRAYS_KEY,
        configrecord_key: str = records.CONFIG_KEY,
        train_metrics_aggr_fn: MetricsAggregation | None = None,
        evaluate_metrics_aggr_fn: MetricsAggregation | None = None,
        *,
        effort: Effort = "one-run",
        **options: Any,
    ) -> None:
        super().__init__(
            fraction_train=fraction_train,
            fraction_evaluate=fraction_evaluate,
            min_train_nodes=min_train_nodes,
            min_evaluate_nodes=min_evaluate_nodes,
            min_available_nodes=min_available_nodes,
            weighted_by_key=weighted_by_key,
            arrayrecord_key=arrayrecord_key,
            configrecord_key=configrecord_key,
            train_metrics_aggr_fn=train_metrics_aggr_fn,
            evaluate_metrics_aggr_fn=evaluate_metrics_aggr_fn,
            **settings_for(effort, options),
        )
        self.effort = effort
        self.arrayrecord_key, self.configrecord_key = arrayrecord_key, configrecord_key
        self.train_metrics_aggr_fn = self._train_metrics.function
        self.evaluate_metrics_aggr_fn = self._evaluate_metrics.function
        for part, what in (("evaluate", "evaluation"), ("train", "training")):
            if getattr(self, f"fraction_{part}") == 0.0:
                log(
                    WARNING,
                    "fraction_%s is set to 0.0. Federated %s will be skipped.",
                    part,
                    what,
                )

    def summary(self) -> None:
        """Log the configuration: that of `LasgStrategy`, and `FedAvg`'s own lines."""
        super().summary()
        log(INFO, "\t└──> Keys in records:")
        log(INFO, "\t\t├── Weighted by: '%s'", self.weighted_by_key)
        log(INFO, "\t\t├── ArrayRecord key: '%s'", self.arrayrecord_key)
        log(INFO, "\t\t└── ConfigRecord key: '%s'", self.configrecord_key)
