"""What a run says of itself: the log, a file of JSON lines, TensorBoard."""

import importlib
import json
from collections.abc import Callable
from logging import DEBUG, INFO
from pathlib import Path
from typing import Any

from flwr.common import log

from ..ledger import Ledger
from ..rounds import RoundReport

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
    ImportError
        If TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        log_file: str | Path | None = None,
        tensorboard_dir: str | Path | None = None,
    ) -> None:
        self._sinks: list[Sink] = [_to_log]
        if log_file is not None:
            self._sinks.append(_json_lines(Path(log_file)))
        if tensorboard_dir is not None:
            self._sinks.append(_tensorboard(Path(tensorboard_dir)))

    def add(self, report: RoundReport, ledger: Ledger, seconds: float) -> None:
        """Report a round that has closed."""
        fields = summary(report, ledger, seconds)
        for sink in self._sinks:
            sink(fields)


def summary(report: RoundReport, ledger: Ledger, seconds: float) -> dict[str, Any]:
    """Return everything that is reported of a round, JSON-ready.

    ``failed`` counts the requests without a valid answer; ``saved_bytes`` is what dense
    SGD would have sent so far, both ways, less what was sent.
    """
    sent = ledger.uplink_bytes + ledger.downlink_bytes
    return {
        **report._asdict(),
        "failed": report.contacted - report.uploaded - report.skipped,
        "seconds": round(seconds, 6),
        "saved_bytes": ledger.sgd_uplink_bytes + ledger.sgd_downlink_bytes - sent,
        "ledger": ledger.as_dict(),
    }


def _to_log(fields: dict[str, Any]) -> None:
    line = (
        "lasg: round %(round)d: contacted %(contacted)d, uploaded %(uploaded)d, "
        "skipped %(skipped)d, failed %(failed)d"
    )
    if not fields["failed"] == fields["contacted"] > 0:  # silence saves nothing
        line += "; %(saved_bytes)d payload bytes saved so far"
    log(INFO, line, fields)
    log(DEBUG, "lasg: %s", fields)


def _json_lines(path: Path) -> Sink:
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(fields: dict[str, Any]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")

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
        for name, value in {**fields, **fields["ledger"]}.items():
            if isinstance(value, int | float):
                writer.add_scalar(f"lasg/{name}", float(value), fields["round"])
        writer.flush()

    return write
