"""What a run says of itself: its result, metrics, log, JSON lines, TensorBoard."""

import importlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from logging import DEBUG, INFO, WARNING
from pathlib import Path
from typing import Any

from flwr.app import Message, MetricRecord, RecordDict
from flwr.common import log
from flwr.serverapp.strategy import Result
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from ..checks import quoted
from ..history import History, row_of
from ..ledger import Ledger
from ..protocol.opening import append_line
from ..protocol.rounds import RoundReport

Values = Mapping[str, Any]
_COUNTS = ("uploads", "uplink_bytes", "downlink_bytes", "evaluation_bytes")
MetricsAggregation = Callable[[list[RecordDict], str], MetricRecord]
Sink = Callable[[dict[str, Any]], None]


class Reports:
    """Reports every round to the log, and elsewhere if asked.

    Parameters
    ----------
    log_file : str or Path, optional
        A JSON object a line is appended for each round.
    tensorboard_dir : str or Path, optional
        Where TensorBoard scalars go.

    Raises
    ------
    ValueError
        If the log file is a folder.
    ImportError
        If TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        log_file: str | Path | None = None,
        tensorboard_dir: str | Path | None = None,
    ) -> None:
        self._sinks: dict[str, Sink] = {"the log": _to_log}
        self._failing: set[str] = set()
        if log_file is not None:
            path = Path(log_file).absolute()
            if path.is_dir():
                raise ValueError(f"log_file {str(path)!r} is a folder: name a file")
            self._sinks[f"log file {path}"] = _json_lines(path)
        if tensorboard_dir is not None:
            folder = Path(tensorboard_dir).absolute()
            self._sinks[f"TensorBoard folder {folder}"] = _tensorboard(folder)

    @property
    def places(self) -> list[str]:
        """Where reports go besides the log, with absolute paths."""
        return list(self._sinks)[1:]

    def add(
        self, report: RoundReport, ledger: Ledger, seconds: float, metrics: Values
    ) -> None:
        """Report a round that has closed."""
        fields = summary(report, ledger, seconds)
        self._hand_out({**fields, "train_metrics": dict(metrics)}, self._sinks)

    def note(self, name: str, round_: int, metrics: Values) -> None:
        """Report the metrics of an evaluation, to files alone."""
        if metrics:
            self._hand_out({"round": round_, name: dict(metrics)}, self.places)

    def _hand_out(self, fields: dict[str, Any], places: Iterable[str]) -> None:
        """Report to these places; one that takes no report ends no run."""
        for place in places:
            try:
                self._sinks[place](fields)
            except Exception as error:
                known = place in self._failing
                self._failing.add(place)
                text = "lasg: a report is lost: %s: %r; training goes on"
                log(DEBUG if known else WARNING, text, place, error)
            else:
                self._failing.discard(place)


def summary(report: RoundReport, ledger: Ledger, seconds: float) -> dict[str, Any]:
    """Return everything that is reported of a round, JSON-ready.

    ``round`` counts from 1, as Flower's own log does; ``failed`` counts the requests
    without a valid answer.
    """
    return {
        **report._asdict(),
        "round": report.round + 1,
        "failed": report.contacted - report.uploaded - report.skipped,
        "seconds": round(seconds, 6),
        "ledger": ledger.as_dict(),
    }


def _to_log(fields: dict[str, Any]) -> None:
    line = (
        "lasg: round %(round)d: contacted %(contacted)d, uploaded %(uploaded)d, "
        "skipped %(skipped)d, failed %(failed)d"
    )
    if not fields["failed"] == fields["contacted"] > 0:
        line += "; bytes so far: %(uplink_bytes)d up, %(down_bytes)d down"
        line += " (dense: %(sgd_uplink_bytes)d, %(sgd_down_bytes)d)"
    ledger = fields["ledger"]
    down = ledger["downlink_bytes"] + ledger["evaluation_bytes"]
    dense = ledger["sgd_downlink_bytes"] + ledger["sgd_evaluation_bytes"]
    both = {"down_bytes": down, "sgd_down_bytes": dense}
    log(INFO, line, {**fields, **ledger, **both})
    log(DEBUG, "lasg: %s", fields)


def log_sampled(caller: str, chosen: int, connected: int) -> None:
    """Log a sample of the nodes, in the words of Flower's `FedAvg`."""
    log(INFO, "%s: Sampled %s nodes (out of %s)", caller, chosen, connected)


def log_received(caller: str, replies: Sequence[Message]) -> None:
    """Log how many nodes replied, in the words of Flower's `FedAvg`."""
    if replies:
        failed = sum(message.has_error() for message in replies)
        good = len(replies) - failed
        log(INFO, "%s: Received %s results and %s failures", caller, good, failed)


def _json_lines(path: Path) -> Sink:
    def write(fields: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        append_line(path, json.dumps(fields))

    return write


def _tensorboard(folder: Path) -> Sink:
    try:
        module = importlib.import_module("tensorboard.summary")
    except ImportError as error:
        raise ImportError(
            f"tensorboard_dir={str(folder)!r} needs TensorBoard: pip install "
            "tensorboard, or leave tensorboard_dir out"
        ) from error
    writer = module.Writer(str(folder))

    def write(fields: dict[str, Any]) -> None:
        nested = [v for v in fields.values() if isinstance(v, dict)]
        flat = {name: v for part in (fields, *nested) for name, v in part.items()}
        for name, value in flat.items():
            if isinstance(value, int | float):
                writer.add_scalar(f"lasg/{name}", float(value), fields["round"])
        writer.flush()

    return write


@dataclass(repr=False)
class LasgResult(Result):
    """Flower's `Result` with the ledger and the history of the run.

    Attributes
    ----------
    ledger : Ledger
        What was sent, and what dense SGD would have sent. The same figures stand in
        ``train_metrics_clientapp`` after every round, as ``lasg-uploads`` and so on.
    """

    ledger: Ledger = field(default_factory=Ledger)

    @property
    def history(self) -> History:
        """Uploads and bytes so far, by round; loss and accuracy where evaluated.

        Loss and accuracy are the metrics with ``loss`` and ``acc`` in their names, of
        the evaluation on the server if there is one, else on the clients.
        """
        rows = []
        for k, trained in self.train_metrics_clientapp.items():
            evaluated: list[Values] = [
                self.evaluate_metrics_serverapp.get(k, {}),
                self.evaluate_metrics_clientapp.get(k, {}),
            ]
            counts: dict[str, Any] = {
                name: trained[f"lasg-{name.replace('_', '-')}"] for name in _COUNTS
            }
            rows.append(row_of(Ledger(k, **counts), evaluated))
        return History(rows)

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw the history, see `lasg_flwr.history.History.plot`."""
        return self.history.plot(path)

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
                quoted(error),
            )
            self._warned = True
            return None
