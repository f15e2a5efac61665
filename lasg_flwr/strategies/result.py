"""What a run of LasgStrategy returns."""

from dataclasses import dataclass, field

from flwr.app import MetricRecord
from flwr.serverapp.strategy import Result

from ..ledger import Ledger


@dataclass(repr=False)
class LasgResult(Result):
    """Flower's `Result` with the ledger of the run.

    Attributes
    ----------
    ledger : Ledger
        What was sent, and what dense SGD would have sent. The same figures stand in
        ``train_metrics_clientapp`` after every round, as ``lasg-uploads`` and so on.
    """

    ledger: Ledger = field(default_factory=Ledger)

    def __repr__(self) -> str:
        """Show Flower's result, and the last figures of the ledger."""
        trained = self.train_metrics_clientapp.items()
        plain = Result(
            arrays=self.arrays,
            train_metrics_clientapp={k: app_metrics(m) for k, m in trained},
            evaluate_metrics_clientapp=self.evaluate_metrics_clientapp,
            evaluate_metrics_serverapp=self.evaluate_metrics_serverapp,
        )
        counts = "\n".join(f"\t{k}: {v}" for k, v in self.ledger.as_metrics().items())
        return f"{plain!r}\nLazy aggregation:\n{counts}"


def app_metrics(metrics: MetricRecord) -> MetricRecord:
    """Return the metrics without the ledger's, which the log has in a line of its own.

    Examples
    --------
    >>> app_metrics(MetricRecord({"loss": 0.5, "lasg-uploads": 3}))
    {'loss': 0.5}
    """
    own = {name: v for name, v in metrics.items() if not name.startswith("lasg-")}
    return MetricRecord(own)
