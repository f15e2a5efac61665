"""The rounds of a run: Flower's `Strategy.start`, from any round on."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from logging import INFO, WARNING

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from ..errors import NoWorkersError
from .exchange import Closing, exchange
from .farewell import leave_if_ending
from .result import app_metrics

EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


@dataclass
class Loop:
    """Runs rounds of a strategy and collects their results.

    Attributes
    ----------
    strategy : Strategy
        Whose hooks are called.
    grid : Grid
        Flower's connection to the nodes.
    timeout : float
        Seconds that a round waits for replies at most.
    closing : Closing
        When a round stops waiting earlier.
    train_config, evaluate_config : ConfigRecord
        What goes to the clients.
    evaluate_fn : callable, optional
        Evaluation on the server.
    """

    strategy: Strategy
    grid: Grid
    timeout: float
    closing: Closing
    train_config: ConfigRecord
    evaluate_config: ConfigRecord
    evaluate_fn: EvaluateFn | None = None

    def run(self, arrays: ArrayRecord, done: int, num_rounds: int) -> Result:
        """Run rounds ``done + 1`` to `num_rounds`; fewer if no workers are left."""
        result = Result()
        result.arrays = arrays
        start = time.time()
        self._evaluate_on_server(done, result)
        for server_round in range(done + 1, num_rounds + 1):
            leave_if_ending()
            log(INFO, "")
            log(INFO, "[ROUND %s/%s]", server_round, num_rounds)
            try:
                self._train(server_round, result)
                self._evaluate(server_round, result)
            except NoWorkersError as reason:
                log(WARNING, "lasg: %s; the run ends in round %d", reason, server_round)
                break
            self._evaluate_on_server(server_round, result)
        log(INFO, "")
        log(INFO, "Strategy execution finished in %.2fs", time.time() - start)
        return result

    def _exchange(self, messages: Iterable[Message]) -> list[Message]:
        return exchange(self.grid, messages, self.timeout, self.closing)

    def _train(self, server_round: int, result: Result) -> None:
        requests = self.strategy.configure_train(
            server_round, result.arrays, self.train_config, self.grid
        )
        replies = self._exchange(requests)
        arrays, metrics = self.strategy.aggregate_train(server_round, replies)
        if arrays is not None:
            result.arrays = arrays
        if metrics is not None:
            if shown := app_metrics(metrics):
                log(INFO, "\t└──> Aggregated MetricRecord: %s", shown)
            result.train_metrics_clientapp[server_round] = metrics

    def _evaluate(self, server_round: int, result: Result) -> None:
        requests = self.strategy.configure_evaluate(
            server_round, result.arrays, self.evaluate_config, self.grid
        )
        replies = self._exchange(requests)
        metrics = self.strategy.aggregate_evaluate(server_round, replies)
        if metrics is not None:
            log(INFO, "\t└──> Aggregated MetricRecord: %s", metrics)
            result.evaluate_metrics_clientapp[server_round] = metrics

    def _evaluate_on_server(self, server_round: int, result: Result) -> None:
        if self.evaluate_fn is None:
            return
        metrics = self.evaluate_fn(server_round, result.arrays)
        if metrics is not None:
            log(INFO, "Global evaluation: %s", metrics)
            result.evaluate_metrics_serverapp[server_round] = metrics
