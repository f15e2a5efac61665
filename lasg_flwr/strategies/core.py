"""What both strategies do: a server for a model, its rounds, failures and reports."""

import time
from collections.abc import Iterable, Mapping
from logging import INFO, WARNING
from numbers import Real
from pathlib import Path
from typing import Any, Generic, TypeVar

from flwr.app import ArrayRecord, Message
from flwr.common import log
from numpy.typing import NDArray

from ..checks import real
from ..config import LasgConfig
from ..errors import CompositionError
from ..flower import records
from ..flower.release import warn_if_untested
from ..flower.requests import Downloads
from ..flower.traffic import Traffic, of_replies
from ..protocol import LasgServer
from ..protocol.messages import Request
from ..protocol.rounds import RoundReport
from .arrays import CurrentArrays
from .model import Model
from .nodes import DepartedWorkers, sample
from .replies import Replies
from .reports import Reports

R = TypeVar("R", bound=Replies)


class Core(Generic[R]):
    """The state machine behind a strategy, and what surrounds it.

    Parameters
    ----------
    config : LasgConfig
        What the run is told.
    replies : Replies
        Takes in what nodes answer.
    leave_after : int, optional
        See `DepartedWorkers`.
    log_file, tensorboard_dir
        See `Reports`.
    """

    def __init__(
        self,
        config: LasgConfig,
        replies: R,
        leave_after: int | None = None,
        log_file: str | Path | None = None,
        tensorboard_dir: str | Path | None = None,
    ) -> None:
        warn_if_untested()
        self.config = config
        self.replies = replies
        self.departed = DepartedWorkers(leave_after)
        self._reports = Reports(log_file, tensorboard_dir)
        self._running: tuple[LasgServer, Model] | None = None
        self._connected: frozenset[int] = frozenset()
        self._opened = 0.0
        self.is_open = False
        self._arrays = CurrentArrays()
        self.resumed_over: ArrayRecord | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a server."""
        return self._running is not None

    @property
    def server(self) -> LasgServer:
        """The state machine."""
        return self._both()[0]

    @property
    def model(self) -> Model:
        """The model that it trains."""
        return self._both()[1]

    def _both(self) -> tuple[LasgServer, Model]:
        if self._running is None:
            raise CompositionError(
                "this strategy has no model yet. LasgStrategy must be started by its "
                "own start(): wrappers that drive it, such as Flower's "
                "differential-privacy strategies, clip whole models and do not compose "
                "with gradient innovations. Remove the wrapper; a custom loop calls "
                "strategy.begin(initial_arrays) first, and LegacyLasgStrategy must "
                "start a round first"
            )
        return self._running

    def begin(
        self, named: Mapping[str, NDArray[Any]], buffers: Iterable[str] | None
    ) -> None:
        """Make a new server for a model."""
        model = Model(named, buffers)
        self._running = (model.server(self.config), model)
        self.departed.last_seen = {}
        if found := [e.name for e in model.layout.entries if e.kind == "buffer"]:
            log(INFO, "lasg: arrays %s are buffers", ", ".join(found))

    def end(self) -> None:
        """Forget the server."""
        self._running = None
        self._arrays = CurrentArrays()

    def arrays(self) -> ArrayRecord:
        """Return the current model under its own names and dtypes."""
        return self._arrays.record(self.server, self.model)

    def is_other_model(self, arrays: ArrayRecord) -> bool:
        """Return whether these arrays differ from the current model's."""
        return self._arrays.differs(self.server, self.model, arrays)

    def honour(self, arrays: ArrayRecord) -> bool:
        """Go on from these arrays if they are not the current ones.

        The initial arrays of a run that was resumed are not meant.
        """
        if arrays is self.resumed_over:
            return False
        return self._arrays.take_up(self.server, self.model, arrays)

    def sample(
        self, connected: Iterable[int], fraction: float, minimum: int
    ) -> list[int]:
        """Return the nodes that a round can reach, in a repeatable order."""
        server, nodes = self.server, list(connected)
        self._connected = frozenset(nodes)
        self.departed.note(server, set(nodes))
        self.replies.failures.keep(nodes)
        server.broadcast.keep(set(nodes) | server.roster.nodes)
        nodes.sort(key=server.roster.order)
        count = max(int(len(nodes) * fraction), minimum)
        return sample(nodes, count, server.settings.seed, server.round)

    def open(self, nodes: list[int]) -> list[tuple[int, Request]]:
        """Open a round: return the requests to send, failing nodes left out."""
        self._opened = time.perf_counter()
        self.is_open = True
        server = self.server
        reachable = self.replies.failures.reachable(nodes, server.round)
        return server.open_round(reachable, self._connected)

    def evaluate(self, nodes: list[int]) -> list[tuple[int, Request]]:
        """Return the requests to evaluate the model that the workers hold."""
        server = self.server
        requests = server.broadcast.evaluate(nodes, server.round)
        sent = [request.path_bytes for _, request in requests]
        server.ledger.count_evaluations(sent, server.broadcast.packed_bytes)
        return requests

    def downloads(self) -> Downloads:
        """Return the arrays of the requests to come."""
        return Downloads(lambda: self.model.packed(self.server))

    def close(self) -> RoundReport:
        """Close the round: θ moves, failures count."""
        self.is_open = False
        report = self.server.close_round()
        for name in self.model.turned_negative(self.server):
            log(
                WARNING,
                "lasg: array %r was above zero at the start, and is not any more: if "
                "it is a variance, or the like, name it in buffers=[...], so that it "
                "travels as values",
                name,
            )
        self.replies.failures.close(report.round)
        return report

    def count(
        self, moved: Traffic, *, skips: bool = False, evaluation: bool = False
    ) -> None:
        """Count the bytes of whole messages, and of those of a kind."""
        ledger = self.server.ledger
        ledger.uplink_message_bytes += moved.uplink_bytes
        ledger.downlink_message_bytes += moved.downlink_bytes
        if skips:
            ledger.skip_message_bytes += moved.uplink_bytes
        if evaluation:
            both = moved.uplink_bytes + moved.downlink_bytes
            ledger.evaluation_message_bytes += both

    def count_replies(self, replies: list[Message]) -> None:
        """Count the bytes of training replies, those of skips also by themselves."""
        uploads = [m for m in replies if records.carries_payload(m)]
        skips = [m for m in replies if not records.carries_payload(m)]
        self.count(of_replies(uploads))
        self.count(of_replies(skips), skips=True)

    @property
    def report_places(self) -> list[str]:
        """Where reports go besides the log."""
        return self._reports.places

    def report(self, report: RoundReport, metrics: Mapping[str, Any]) -> None:
        """Report a round that has closed."""
        seconds = time.perf_counter() - self._opened
        self._reports.add(report, self.server.ledger, seconds, metrics)

    def note(self, name: str, round_: int, metrics: Mapping[str, Any]) -> None:
        """Report the metrics of an evaluation."""
        self._reports.note(name, round_, metrics)


def refuse_fraction(rule: Any) -> None:
    """Raise ValueError if a rule is a number, as FedAvg's first argument is."""
    if isinstance(rule, Real):
        raise ValueError(
            f"bad rule {rule!r}: the first argument is the rule, not a fraction; write "
            "fraction_train=, or use LazyFedAvg, which takes FedAvg's arguments"
        )


def checked_fraction(name: str, value: float) -> float:
    """Return a share of the nodes; ValueError unless it lies in [0, 1]."""
    return real(name, value, least=0.0, most=1.0)
