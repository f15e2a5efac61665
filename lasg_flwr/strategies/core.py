"""What both strategies do: a server for a model, its rounds, failures and reports."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from ..checks import real
from ..config import LasgConfig
from ..errors import CompositionError
from ..protocol import LasgServer
from ..protocol.messages import Request
from ..protocol.rounds import RoundReport
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
        self.config = config
        self.replies = replies
        self.departed = DepartedWorkers(leave_after)
        self._reports = Reports(log_file, tensorboard_dir)
        self._running: tuple[LasgServer, Model] | None = None
        self._connected: frozenset[int] = frozenset()
        self._opened = 0.0

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

    def end(self) -> None:
        """Forget the server."""
        self._running = None

    def sample(
        self, connected: Iterable[int], fraction: float, minimum: int
    ) -> list[int]:
        """Return the nodes that a round can reach, in a repeatable order."""
        server, nodes = self.server, list(connected)
        self._connected = frozenset(nodes)
        self.departed.note(server, set(nodes))
        self.replies.failures.keep(nodes)
        nodes.sort(key=server.roster.order)
        count = max(int(len(nodes) * fraction), minimum)
        return sample(nodes, count, server.settings.seed, server.round)

    def open(self, nodes: list[int]) -> list[tuple[int, Request]]:
        """Open a round: return the requests to send, failing nodes left out."""
        self._opened = time.perf_counter()
        server = self.server
        reachable = self.replies.failures.reachable(nodes, server.round)
        return server.open_round(reachable, self._connected)

    def close(self) -> RoundReport:
        """Close the round: θ moves, failures count."""
        report = self.server.close_round()
        self.replies.failures.close(report.round)
        return report

    def report(self, report: RoundReport) -> None:
        """Report a round that has closed."""
        seconds = time.perf_counter() - self._opened
        self._reports.add(report, self.server.ledger, seconds)


def checked_fraction(name: str, value: float) -> float:
    """Return a share of the nodes; ValueError unless it lies in [0, 1]."""
    return real(name, value, least=0.0, most=1.0)
