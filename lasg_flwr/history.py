"""What a run did, round by round: loss, accuracy, uploads and bytes; its picture."""

import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .checks import whole
from .ledger import Ledger, human_bytes
from .vectors import F32

Values = Mapping[str, Any]
Evaluate = Callable[[F32], Values]
_DOWN = ("downlink_bytes", "evaluation_bytes")
EVALUATIONS = ("evaluate_metrics", "server_evaluate_metrics")
"""What a log calls the metrics of evaluations on clients and on the server."""


class Row(NamedTuple):
    """A round that has closed; uploads and bytes are those of the run so far.

    Attributes
    ----------
    round : int
        How many rounds were done.
    uploads : int
        Uploads accepted.
    uplink_bytes, downlink_bytes : int
        Payloads, and packed models or steps of them, for evaluation as well.
    loss, accuracy : float, optional
        Where they were evaluated.
    """

    round: int
    uploads: int
    uplink_bytes: int
    downlink_bytes: int
    loss: float | None = None
    accuracy: float | None = None


@dataclass
class History:
    """The rounds of a run.

    Attributes
    ----------
    rows : list of Row
        One for each round.

    Examples
    --------
    >>> history = History([Row(1, 4, 900, 400), Row(2, 7, 1600, 800, loss=0.5)])
    >>> history.column("uploads"), history.evaluated().column("loss")
    ([4, 7], [0.5])
    """

    rows: list[Row] = field(default_factory=list)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[Any]:
        """Return one value of every round, such as ``"loss"``."""
        return [getattr(row, name) for row in self.rows]

    def evaluated(self) -> "History":
        """Return the rounds with a loss or an accuracy."""
        known = [r for r in self.rows if r.loss is not None or r.accuracy is not None]
        return History(known)

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw loss and accuracy against rounds and bytes up, and uploads and bytes.

        Parameters
        ----------
        path : str or Path, optional
            Where to save the picture; its ending says in which form.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        return plot(self, path)


def plot(history: History, path: str | Path | None = None) -> Any:
    """Draw a history, see `History.plot`."""
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ImportError(
            "a plot needs matplotlib: pip install 'lasg-flwr[plot]'"
        ) from error
    figure = figures.Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    seen = history.evaluated()
    _draw(panels[0], "round", {"loss": seen, "accuracy": seen}, "round")
    _draw(panels[1], "uplink_bytes", {"loss": seen, "accuracy": seen}, "bytes up")
    _draw(
        panels[2],
        "round",
        {"uplink_bytes": history, "downlink_bytes": history},
        "round",
    )
    panels[2].set_ylabel("bytes so far")
    if path is not None:
        figure.savefig(path)
    return figure


def _draw(axes: Any, x: str, lines: Mapping[str, History], label: str) -> None:
    """Draw some columns against another, where there are values."""
    for name, history in lines.items():
        points = [
            (getattr(row, x), getattr(row, name))
            for row in history
            if getattr(row, name) is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), label=name.replace("_", " "))
    axes.set_xlabel(label)
    if axes.lines:
        axes.legend()


def picked(values: Values, part: str) -> float | None:
    """Return the first number whose name contains `part`, if there is one.

    Examples
    --------
    >>> picked({"num-examples": 3, "eval_acc": 0.5}, "acc")
    0.5
    """
    for name, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and part in name.lower() and not name.startswith("lasg-"):
            return float(value)
    return None


def row_of(ledger: Ledger, evaluated: Sequence[Values] = ()) -> Row:
    """Return the row of the round that has just closed.

    Parameters
    ----------
    ledger : Ledger
        What was sent so far.
    evaluated : sequence of mapping
        Metrics; the first with a loss or an accuracy has it.
    """
    counts = ledger.rounds, ledger.uploads, ledger.uplink_bytes, ledger.down_bytes
    return Row(*counts, *_figures(evaluated))


def _figures(evaluated: Sequence[Values]) -> tuple[float | None, float | None]:
    found = [
        next(
            (v for values in evaluated if (v := picked(values, part)) is not None), None
        )
        for part in ("loss", "acc")
    ]
    return found[0], found[1]


def read_log(path: str | Path) -> History:
    """Return the history in a strategy's ``log_file``.

    Parameters
    ----------
    path : str or Path
        A file with an object of JSON in each line.

    Raises
    ------
    ValueError
        If a line is none of such a log.
    """
    rounds: dict[int, tuple[Values, list[Values]]] = {}
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1):
        try:
            fields = json.loads(line)
            ledger, found = rounds.get(fields["round"], ({}, []))
            counts = dict(fields.get("ledger", ledger))
            metrics = [fields[name] for name in EVALUATIONS if name in fields]
            rounds[int(fields["round"])] = counts, [*metrics, *found]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path}, line {number}, is none of a strategy's log_file: {error!r}"
            ) from None
    return History(
        [
            Row(
                k,
                int(counts.get("uploads", 0)),
                int(counts.get("uplink_bytes", 0)),
                sum(int(counts.get(name, 0)) for name in _DOWN),
                *_figures(found),
            )
            for k, (counts, found) in sorted(rounds.items())
        ]
    )


class Recorder:
    """Collects the history of a run of the engine, and shows its progress.

    Parameters
    ----------
    evaluate : callable, optional
        ``evaluate(theta)`` gives metrics, or a loss.
    every : int, optional
        Evaluate every so many rounds; left out, never.
    rounds : int
        How many there will be.
    progress : bool
        Whether each evaluated round is a line on standard error.
    """

    def __init__(
        self, evaluate: Evaluate | None, every: int | None, rounds: int, progress: bool
    ) -> None:
        self._every = None if every is None else whole("evaluate_every", every, least=1)
        self._evaluate, self._rounds, self._progress = evaluate, rounds, progress
        self.history = History()

    def add(self, theta: F32, ledger: Ledger) -> None:
        """Take in a round that has closed."""
        k, every = ledger.rounds, self._every
        due = every is not None and (k % every == 0 or k == self._rounds)
        values = [self._evaluate(theta)] if due and self._evaluate is not None else []
        row = row_of(ledger, values)
        self.history.rows.append(row)
        if self._progress and (due or (every is None and k == self._rounds)):
            print(progress_line(row, self._rounds), file=sys.stderr)


def progress_line(row: Row, rounds: int) -> str:
    """Return a round in words.

    Examples
    --------
    >>> progress_line(Row(20, 4, 1500, 8_000_000, 0.25, 0.9), 100)
    'round 20/100: loss 0.25, accuracy 0.9, 4 uploads, 1.50 kB up, 8.00 MB down'
    """
    parts = [
        f"{name} {value:.4g}"
        for name, value in (("loss", row.loss), ("accuracy", row.accuracy))
        if value is not None
    ]
    parts.append(f"{row.uploads} uploads")
    up, down = human_bytes(row.uplink_bytes), human_bytes(row.downlink_bytes)
    parts += [f"{up} up", f"{down} down"]
    return f"round {row.round}/{rounds}: {', '.join(parts)}"


def mean_evaluation(found: Iterable[tuple[float, int, Values]]) -> dict[str, float]:
    """Return loss and metrics of several workers, weighted by their examples.

    Examples
    --------
    >>> mean_evaluation([(1.0, 1, {"accuracy": 0.5}), (3.0, 3, {"accuracy": 1.0})])
    {'loss': 2.5, 'accuracy': 0.875}
    """
    sums: dict[str, float] = {}
    weights: dict[str, int] = {}
    for loss, examples, metrics in found:
        for name, value in {"loss": loss, **metrics}.items():
            sums[name] = sums.get(name, 0.0) + examples * float(value)
            weights[name] = weights.get(name, 0) + examples
    return {name: total / weights[name] for name, total in sums.items()}
