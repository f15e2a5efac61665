"""What clients report besides their uploads, aggregated without trusting it."""

from collections.abc import Callable
from logging import DEBUG, WARNING

from flwr.app import MetricRecord, RecordDict
from flwr.common import log
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

MetricsAggregation = Callable[[list[RecordDict], str], MetricRecord]


class Metrics:
    """Aggregates the metrics of a round; what cannot be aggregated ends no run.

    Clients choose names, types and weights of what they report: two that do not go
    together, or weights of zero, make an aggregation function raise.

    Parameters
    ----------
    function : callable, optional
        ``function(contents, weighted_by_key) -> MetricRecord``; Flower's own if left
        out.
    weighted_by_key : str
        The metric that is the weight.
    """

    def __init__(
        self, function: MetricsAggregation | None, weighted_by_key: str
    ) -> None:
        self.function = function or aggregate_metricrecords
        self.weighted_by_key = weighted_by_key
        self._warned = False

    def aggregate(self, contents: list[RecordDict]) -> MetricRecord | None:
        """Return the aggregate; None of nothing, or if the function raises."""
        if not contents:
            return None
        try:
            return self.function(contents, self.weighted_by_key)
        except Exception as error:
            log(
                DEBUG if self._warned else WARNING,
                "lasg: the metrics of %d clients could not be aggregated, and are left "
                "out: %s: %s",
                len(contents),
                type(error).__name__,
                error,
            )
            self._warned = True
            return None
