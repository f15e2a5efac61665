"""The rounds of a run: Flower's `Strategy.start`, from any round on."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from logging import INFO, WARNING

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from ..checks import quoted, real
from ..errors import NoWorkersError
from .reports import app_metrics
from .resume_hint import leave_if_ending

POLL_SECONDS = 0.1
LINE = 2000
"""Characters of a line with metrics at most."""
EvaluateFn = Callable[[int, ArrayRecord], MetricRecord | None]


@dataclass(frozen=True)
class Closing:
    """When a round stops waiting for replies.

    Attributes
    ----------
    seconds : float, optional
        Deadline after the requests were sent; None is Flower's `timeout` alone.
    share : float
        Share of the requests that must be answered, with what the server can keep.
    """

    seconds: float | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.seconds is not None:
            hint = "; leave it out to wait for everybody"
            seconds = real("round_seconds", self.seconds, above=0, hint=hint)
            object.__setattr__(self, "seconds", seconds)
        share = real("reply_share", self.share, above=0, most=1)
        object.__setattr__(self, "share", share)

    @property
    def waits_for_all(self) -> bool:
        """Whether Flower's own exchange will do."""
        return self.seconds is None and self.share == 1.0


def answers(message: Message) -> bool:
    """Return whether a message is a reply, not an error."""
    return not message.has_error()


def exchange(
    grid: Grid,
    messages: Iterable[Message],
    timeout: float,
    closing: Closing,
    counts: Callable[[Message], bool] = answers,
) -> list[Message]:
    """Send messages and return the replies that came in time.

    Parameters
    ----------
    grid : Grid
        Flower's connection to the nodes.
    messages : iterable of Message
        What to send.
    timeout : float
        Flower's limit, in seconds.
    closing : Closing
        When to stop earlier. What comes later is never pulled.
    counts : callable, optional
        Whether a reply counts towards the share; left out, all but errors do.
    """
    messages = list(messages)
    if not messages:
        return []
    if closing.waits_for_all:
        return list(grid.send_and_receive(messages, timeout=timeout))
    limit = timeout if closing.seconds is None else min(timeout, closing.seconds)
    end = time.monotonic() + limit
    waiting = {message_id for message_id in grid.push_messages(messages) if message_id}
    needed = math.ceil(closing.share * len(messages))
    replies: list[Message] = []
    good = 0
    while waiting:
        pulled = list(grid.pull_messages(waiting))
        replies += pulled
        waiting -= {message.metadata.reply_to_message_id for message in pulled}
        good += sum(counts(message) for message in pulled)
        remaining = end - time.monotonic()
        if not waiting or good >= needed or remaining <= 0:
            break
        time.sleep(min(POLL_SECONDS, remaining))
    return replies


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
    before_aggregation : callable
        Returns what `aggregate_train` gets of a round's replies.
    after_aggregation : callable
        Called with the round and its replies after that.
    note : callable
        Called with name, round and metrics of an evaluation on the server.
    counts : callable
        Whether a training reply counts towards the share, see `exchange`.
    repeat : callable
        Returns the training replies that stand, and messages to those who are asked
        once more in this round.
    """

    strategy: Strategy
    grid: Grid
    timeout: float
    closing: Closing
    train_config: ConfigRecord
    evaluate_config: ConfigRecord
    evaluate_fn: EvaluateFn | None = None
    before_aggregation: Callable[[list[Message]], list[Message]] = list
    after_aggregation: Callable[[int, list[Message]], None] = lambda *_: None
    note: Callable[[str, int, MetricRecord], None] = lambda *_: None
    counts: Callable[[Message], bool] = answers
    repeat: Callable[[list[Message]], tuple[list[Message], list[Message]]] = (
        lambda replies: (replies, [])
    )

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

    def _exchange(
        self, messages: Iterable[Message], counts: Callable[[Message], bool] = answers
    ) -> list[Message]:
        return exchange(self.grid, messages, self.timeout, self.closing, counts)

    def _train(self, server_round: int, result: Result) -> None:
        requests = self.strategy.configure_train(
            server_round, result.arrays, self.train_config, self.grid
        )
        replies, repeats = self.repeat(self._exchange(requests, self.counts))
        replies += self._exchange(repeats, self.counts)
        replies = self.before_aggregation(replies)
        arrays, metrics = self.strategy.aggregate_train(server_round, replies)
        self.after_aggregation(server_round, replies)
        if arrays is not None:
            result.arrays = arrays
        if metrics is not None:
            if shown := app_metrics(metrics):
                log(INFO, "\t└──> Aggregated MetricRecord: %s", quoted(shown, LINE))
            result.train_metrics_clientapp[server_round] = metrics

    def _evaluate(self, server_round: int, result: Result) -> None:
        requests = self.strategy.configure_evaluate(
            server_round, result.arrays, self.evaluate_config, self.grid
        )
        replies = self._exchange(requests)
        metrics = self.strategy.aggregate_evaluate(server_round, replies)
        if metrics is not None:
            log(INFO, "\t└──> Aggregated MetricRecord: %s", quoted(metrics, LINE))
            result.evaluate_metrics_clientapp[server_round] = metrics

    def _evaluate_on_server(self, server_round: int, result: Result) -> None:
        if self.evaluate_fn is None:
            return
        metrics = self.evaluate_fn(server_round, result.arrays)
        if server_round:
            log(INFO, "Global evaluation")
            log(INFO, "\t└──> MetricRecord: %s", metrics)
        else:
            log(INFO, "Initial global evaluation results: %s", metrics)
        if metrics is not None:
            result.evaluate_metrics_serverapp[server_round] = metrics
            self.note("server_evaluate_metrics", server_round, metrics)
