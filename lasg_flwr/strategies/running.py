"""Starting, resuming, saving and ending the run of a strategy."""

from abc import ABC
from contextlib import nullcontext
from logging import INFO, WARNING
from typing import Literal

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.strategy_utils import log_strategy_start_info

from ..config import LasgConfig
from ..flower.names import check_config
from ..flower.traffic import of_requests
from ..protocol import LasgServer
from .checkpoints import Checkpoints
from .core import Core
from .loop import LINE, Closing, EvaluateFn, Loop
from .replies import MessageReplies
from .reports import LasgResult
from .resume_hint import resume_hint


class RunnableStrategy(Strategy, ABC):
    """A strategy with a server behind it that can be started, stopped and resumed."""

    _core: Core[MessageReplies]
    _checkpoints: Checkpoints | None
    buffers: frozenset[str] | None
    resume: bool | Literal["new-rate"]
    closing: Closing
    fraction_train: float
    fraction_evaluate: float
    min_train_nodes: int
    min_evaluate_nodes: int
    min_available_nodes: int

    @property
    def config(self) -> LasgConfig:
        """What the run is told."""
        return self._core.config

    @property
    def server(self) -> LasgServer:
        """The state machine behind this strategy; there is one once it has started."""
        return self._core.server

    def begin(self, initial_arrays: ArrayRecord) -> None:
        """Make a new server for this model, or restore it; `start` does so itself.

        Parameters
        ----------
        initial_arrays : ArrayRecord
            The model's arrays, by name: parameters, buffers and integers.

        Raises
        ------
        CheckpointError
            If there is a checkpoint, but of another model, rule or version.
        TypeError
            If the arrays are no ArrayRecord.
        """
        if not isinstance(initial_arrays, ArrayRecord):
            raise TypeError(
                f"initial_arrays is a {type(initial_arrays).__name__}, expected an "
                "ArrayRecord: ArrayRecord(model.state_dict()), or "
                "ArrayRecord([array, ...]) for NumPy arrays"
            )
        named = {name: array.numpy() for name, array in initial_arrays.items()}
        core, checkpoints = self._core, self._checkpoints
        core.begin(named, self.buffers)
        if checkpoints is not None and self.resume:
            new_rate = self.resume == "new-rate"
            seen = checkpoints.load(core.server, core.model, new_rate)
            core.departed.last_seen = seen or {}
        core.resumed_over = initial_arrays if core.server.round else None

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: EvaluateFn | None = None,
    ) -> LasgResult:
        """Run the strategy; see Flower's `Strategy.start`.

        Called again with the arrays that the last call ended with, as in a loop that
        saves models, it goes on: the server keeps what it knows of the workers, and
        `num_rounds` further rounds follow. With other arrays a new run begins.

        Returns
        -------
        LasgResult
            Flower's result, and the ledger. The results of rounds before a resume are
            not part of it.

        Raises
        ------
        CheckpointError
            If there is a checkpoint, but of another model, rule or version.
        StateInUseError
            If another run is using `checkpoint_dir`.
        ValueError
            If an entry of a config has a name of this package's.
        """
        check_config(train_config or {}, "train_config")
        check_config(evaluate_config or {}, "evaluate_config")
        checkpoints = self._checkpoints
        lock = nullcontext() if checkpoints is None else checkpoints.locked()
        with lock, resume_hint(self._hint):
            further = self._goes_on_from(initial_arrays)
            if not further:
                self._core.end()
                self.begin(initial_arrays)
            server = self._core.server
            total = server.round + num_rounds if further else num_rounds
            log(INFO, "Starting %s strategy:", self.__class__.__name__)
            log_strategy_start_info(
                num_rounds, initial_arrays, train_config, evaluate_config
            )
            self.summary()
            log(INFO, "")
            loop = Loop(
                self,
                grid,
                timeout,
                self.closing,
                train_config or ConfigRecord(),
                evaluate_config or ConfigRecord(),
                evaluate_fn,
                self._before_aggregation,
                self._after_aggregation,
                self._core.note,
                self._counts,
                self._repeat,
            )
            arrays = initial_arrays
            if server.round:
                arrays = self._core.arrays()
            rounds = loop.run(arrays, server.round, total)
            self._save(last=True)
        if server.round and not server.ledger.uploads:
            log(
                WARNING,
                "lasg: no node ever uploaded in %d rounds: the model is the initial "
                "one; see the warnings above",
                server.round,
            )
        result = LasgResult(**vars(rounds), ledger=server.ledger)
        log(INFO, "")
        log(INFO, "Final results:")
        log(INFO, "")
        for line in str(result).splitlines():
            log(INFO, "\t%s", line if len(line) <= LINE else f"{line[:LINE]}...")
        log(INFO, "")
        return result

    def _take_up(self, arrays: ArrayRecord) -> None:
        """Go on from these arrays, which a subclass or a loop may have changed.

        A subclass with a loop of its own need not call `begin`; a wrapper with one
        is refused.
        """
        core = self._core
        own_loop = type(self).start is not RunnableStrategy.start
        if own_loop and not core.is_running:
            self.begin(arrays)
        if core.honour(arrays):
            log(INFO, "lasg: the arrays were changed from outside: going on from them")

    def _before_aggregation(self, replies: list[Message]) -> list[Message]:
        """Return the replies of a round as `aggregate_train` is to get them."""
        return replies

    def _after_aggregation(self, server_round: int, replies: list[Message]) -> None:
        """See to it that the round has closed, whatever `aggregate_train` did."""

    def _goes_on_from(self, arrays: ArrayRecord) -> bool:
        """Return whether this is a further call of `start` for one and the same run."""
        core = self._core
        if not core.is_running or not core.server.round:
            return False
        if core.is_other_model(arrays):
            log(
                WARNING,
                "lasg: start() is called again with other arrays: a new run begins in "
                "round 1; pass the result's arrays to go on",
            )
            return False
        log(INFO, "lasg: going on after round %d", core.server.round)
        return True

    def _repeat(self, replies: list[Message]) -> tuple[list[Message], list[Message]]:
        """Ask those once more who lacked the model; their answers are done with."""
        core = self._core
        if core.server.broadcast.model is None:
            return replies, []
        downloads = core.downloads()
        kept, taken, repeats = core.replies.repeats(core.server, replies, downloads)
        core.count_replies(taken)
        core.count(of_requests(repeats))
        return kept, repeats

    def _counts(self, message: Message) -> bool:
        return self._core.replies.would_keep(self.server, message)

    def _hint(self) -> str:
        done = self.server.round if self._core.is_running else 0
        if self._checkpoints is None:
            remedy = "pass checkpoint_dir=... to be able to resume"
        else:
            remedy = self._checkpoints.remedy()
        return f"stopped in round {done}; {remedy}"

    def _save(self, last: bool = False) -> None:
        """Write the checkpoint if one is due; `last` if none was for this round."""
        core = self._core
        if self._checkpoints is None or not core.server.round:
            return
        if (core.server.round % self._checkpoints.every == 0) != last:
            self._checkpoints.save(core.server, core.model, core.departed.last_seen)

    def summary(self) -> None:
        """Log the configuration."""
        settings = self.server.settings
        log(INFO, "\t├──> Lazy aggregation:")
        log(
            INFO,
            "\t│\t├── Rule: %s (c = %g)",
            self.server.rule,
            self.config.threshold_constant,
        )
        log(INFO, "\t│\t├── Codec: %s | memory: %s", settings.codec, settings.memory)
        log(INFO, "\t│\t└── Server memory: %s", settings.server_memory)
        if self._checkpoints is not None:
            log(INFO, "\t├──> %s", self._checkpoints)
        for place in self._core.report_places:
            log(INFO, "\t├──> Reports: %s", place)
        log(INFO, "\t└──> Sampling:")
        fractions = (self.fraction_train, self.fraction_evaluate)
        log(INFO, "\t\t├── Fraction: train (%.2f) | evaluate (%.2f)", *fractions)
        minima = (self.min_train_nodes, self.min_evaluate_nodes)
        log(INFO, "\t\t├── Minimum nodes: train (%d) | evaluate (%d)", *minima)
        log(INFO, "\t\t└── Minimum available nodes: %d", self.min_available_nodes)
