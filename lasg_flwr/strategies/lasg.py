"""LasgStrategy: the server's state machine as a Flower strategy (Message API)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
)
from flwr.serverapp import Grid

from ..checks import real, whole
from ..codecs.assignment import CodecChoice
from ..config import LasgConfig, config_from
from ..errors import WireError
from ..flower import records, traffic
from ..flower.names import SHORT_KEY, app_keys
from ..rules import Rule
from .checkpoints import Checkpoints
from .core import Core, checked_fraction, refuse_fraction
from .decoded import DecodedReplies
from .loop import Closing
from .nodes import wait_for_nodes
from .replies import MessageReplies
from .reports import Metrics, MetricsAggregation, log_received, log_sampled
from .running import RunnableStrategy


class LasgStrategy(RunnableStrategy):
    """Lazily aggregated SGD: workers upload, or are contacted, only if it pays.

    In each round θ^{k+1} = step(θ^k, ∇^k) with ∇^k = Σ w_m h_m / Σ w_m, where h_m is
    the last gradient that worker m uploaded: equations (4) and (5). The rule and the
    codec are chosen here alone and travel in each request.

    Parameters
    ----------
    rule : str or Rule (default: "vr")
        Who uploads: ``"vr"``, the paper's ``"wk1"``, ``"wk2"``, ``"ps"``, ``"pse"``,
        ``"lag"``, ``"sgd"``, or an object such as ``WK2(c=0.25, max_delay=200)``.
    codec : str, Codec, or sequence of these (default: "dense")
        How uploads are encoded; of several, worker m uses entry m mod n.
    config : LasgConfig, optional
        What the run is told, in place of `rule`, `codec` and `options`.
    buffers : iterable of str, optional
        Names of floating arrays without gradient, which clients send along with an
        upload and the server averages as values; left out, those that end in
        ``running_mean`` or ``running_var``.
    evaluate_every : int (default: 1)
        Federated evaluation takes place every so many rounds.
    leave_after : int, optional
        A worker whose node was not connected for so many rounds in a row has left;
        left out, the rule's `max_delay`.
    fraction_train, fraction_evaluate : float (default: 1.0)
        Share of the connected nodes that a round can reach.
    min_train_nodes, min_evaluate_nodes, min_available_nodes : int (default: 2)
        As in `FedAvg`.
    weighted_by_key : str (default: "num-examples")
        Weight of metrics in their aggregation.
    arrayrecord_key, configrecord_key : str (default: "arrays", "config")
        Under which names a Message-API app behind `lasg_mod` finds the model and the
        config; it may answer with the model under any name.
    train_metrics_aggr_fn, evaluate_metrics_aggr_fn : callable, optional
        As in `FedAvg`; training metrics come from all who replied, skippers included.
    checkpoint_dir : str or Path, optional
        Folder of the run's checkpoint. If there is one, the run goes on from it, to
        the bit; `num_rounds` is the total.
    checkpoint_every : int (default: 1)
        Rounds between two checkpoints; the last round is always saved.
    resume : bool or "new-rate" (default: True)
        Whether to go on from a checkpoint; False starts anew and replaces it,
        "new-rate" goes on although the step's learning rate is another.
    round_seconds : float, optional
        A round closes so many seconds after its requests were sent. Left out, it
        waits for Flower's `timeout`. Late replies change nothing.
    reply_share : float (default: 1.0)
        A round closes once this share of its requests is answered.
    fail_limit : int or None (default: 3)
        A node that failed so many times in a row, or did not answer in time, is left
        alone for 1, 2, 4, ... rounds, 64 at most. None: never.
    wait_seconds : float, optional
        The run ends if too few nodes are connected for so long; left out, it waits.
    log_file : str or Path, optional
        A line of JSON is appended for every round.
    tensorboard_dir : str or Path, optional
        Where TensorBoard scalars go; needs the package tensorboard.
    **options
        Further arguments of `lasg_flwr.LasgConfig`, which documents them: ``memory``,
        ``server_memory``, ``step``, ``weights``, ``seed``, ``norm_bound`` and so on.
        Where clients send updates, as behind `lasg_mod`, the step is 1.0.

    Raises
    ------
    ValueError
        If an argument is out of range or does not go together with another.
    TypeError
        For an unknown option.
    ImportError
        If TensorBoard is asked for and not installed.

    Examples
    --------
    ::

        @app.main()
        def main(grid: Grid, context: Context) -> None:
            strategy = LasgStrategy(rule="wk2", step=0.05)
            arrays = ArrayRecord(model.state_dict())
            result = strategy.start(grid, arrays, num_rounds=100)
            print(result.ledger.uploads, result.ledger.uplink_bytes)
    """

    def __init__(
        self,
        rule: str | Rule[Any] = "vr",
        codec: CodecChoice = "dense",
        *,
        config: LasgConfig | None = None,
        buffers: Iterable[str] | None = None,
        evaluate_every: int = 1,
        leave_after: int | None = None,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_train_nodes: int = 2,
        min_evaluate_nodes: int = 2,
        min_available_nodes: int = 2,
        weighted_by_key: str = records.EXAMPLES_KEY,
        arrayrecord_key: str = records.ARRAYS_KEY,
        configrecord_key: str = records.CONFIG_KEY,
        train_metrics_aggr_fn: MetricsAggregation | None = None,
        evaluate_metrics_aggr_fn: MetricsAggregation | None = None,
        checkpoint_dir: str | Path | None = None,
        checkpoint_every: int = 1,
        resume: bool | Literal["new-rate"] = True,
        round_seconds: float | None = None,
        reply_share: float = 1.0,
        fail_limit: int | None = 3,
        wait_seconds: float | None = None,
        log_file: str | Path | None = None,
        tensorboard_dir: str | Path | None = None,
        **options: Any,
    ) -> None:
        refuse_fraction(rule)
        if isinstance(buffers, str):
            raise ValueError(f"buffers must be a list of names, got {buffers!r}")
        if config is None:
            options = {"rule": rule, "codec": codec, **options}
        self._core = Core(
            config_from(config, options),
            MessageReplies(fail_limit),
            leave_after,
            log_file,
            tensorboard_dir,
        )
        self.buffers = None if buffers is None else frozenset(buffers)
        self.evaluate_every = whole("evaluate_every", evaluate_every, least=1)
        self.fraction_train = checked_fraction("fraction_train", fraction_train)
        self.fraction_evaluate = checked_fraction(
            "fraction_evaluate", fraction_evaluate
        )
        train = whole("min_train_nodes", min_train_nodes)
        evaluate = whole("min_evaluate_nodes", min_evaluate_nodes)
        self.min_train_nodes = train if fraction_train else 0
        self.min_evaluate_nodes = evaluate if fraction_evaluate else 0
        self.min_available_nodes = whole("min_available_nodes", min_available_nodes)
        self.weighted_by_key = weighted_by_key
        self._decoded = DecodedReplies(arrayrecord_key)
        self._app_keys: dict[str, Any] = {SHORT_KEY: True}
        self._app_keys |= app_keys(arrayrecord_key, configrecord_key, weighted_by_key)
        self._train_metrics = Metrics(train_metrics_aggr_fn, weighted_by_key)
        self._evaluate_metrics = Metrics(evaluate_metrics_aggr_fn, weighted_by_key)
        self.closing = Closing(round_seconds, reply_share)
        self.wait_seconds = (
            None
            if wait_seconds is None
            else real("wait_seconds", wait_seconds, least=0)
        )
        if resume not in (True, False, "new-rate"):
            raise ValueError(
                f"resume must be True, False or 'new-rate', got {resume!r}"
            )
        self.resume = resume
        self._checkpoints = (
            None
            if checkpoint_dir is None
            else Checkpoints(Path(checkpoint_dir), checkpoint_every)
        )

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the workers that this round needs; PS and PSE leave the others alone."""
        self._take_up(arrays)
        if self.fraction_train == 0.0:
            return []
        nodes = self._sample(
            grid, self.fraction_train, self.min_train_nodes, "configure_train"
        )
        config["server-round"] = server_round
        config.update(self._app_keys)
        due, downloads = self._core.open(nodes), self._core.downloads()
        self._decoded.open(due)
        sent = [
            downloads.message(node, request, config, MessageType.TRAIN)
            for node, request in due
        ]
        self._core.replies.open(sent)
        self._core.count(traffic.of_requests(sent))
        return sent

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Take in the replies, close the round and return θ^{k+1}."""
        if self.fraction_train == 0.0:
            return None, None
        core, server = self._core, self.server
        replies = self._decoded.taken_back(replies)
        log_received("aggregate_train", replies)
        core.count_replies(replies)
        taken = [core.replies.take(server, reply) for reply in replies]
        contents = [content for content in taken if content is not None]
        report = core.close()
        self._save()
        metrics = self._train_metrics.aggregate(contents) or MetricRecord()
        core.report(report, metrics)
        metrics.update(server.ledger.as_metrics())
        return core.arrays(), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the model to be evaluated, every `evaluate_every` rounds."""
        if self.fraction_evaluate == 0.0 or server_round % self.evaluate_every:
            return []
        self._take_up(arrays)
        nodes = self._sample(
            grid, self.fraction_evaluate, self.min_evaluate_nodes, "configure_evaluate"
        )
        config["server-round"] = server_round
        config.update(self._app_keys)
        downloads = self._core.downloads()
        sent = [
            downloads.message(node, request, config, MessageType.EVALUATE)
            for node, request in self._core.evaluate(nodes)
        ]
        self._core.count(traffic.of_requests(sent), evaluation=True)
        return sent

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Aggregate the clients' losses and metrics."""
        contents = []
        replies = list(replies)
        log_received("aggregate_evaluate", replies)
        self._core.count(traffic.of_replies(replies), evaluation=True)
        for message in replies:
            if message.has_error():
                self._core.replies.report_failure(message, message.error.reason)
                continue
            try:
                if self._core.replies.evaluated(self.server, message):
                    found = records.evaluate_metrics(
                        message.content, self.weighted_by_key
                    )
                    contents.append(found)
            except WireError as error:
                self._core.replies.report_failure(message, str(error))
        metrics = self._evaluate_metrics.aggregate(contents)
        self._core.note("evaluate_metrics", server_round, metrics or {})
        return metrics

    def _before_aggregation(self, replies: list[Message]) -> list[Message]:
        if type(self).aggregate_train is LasgStrategy.aggregate_train:
            return replies
        return self._decoded.hand_out(replies, self.server, self._core.model)

    def _after_aggregation(self, server_round: int, replies: list[Message]) -> None:
        if self._core.is_open:  # a subclass did without super().aggregate_train
            LasgStrategy.aggregate_train(self, server_round, replies)

    def _sample(
        self, grid: Grid, fraction: float, minimum: int, caller: str
    ) -> list[int]:
        """Return the nodes that a round can reach, in a repeatable order."""
        needed = max(self.min_available_nodes, minimum)
        nodes = wait_for_nodes(
            grid.get_node_ids, needed, wait_seconds=self.wait_seconds
        )
        chosen = self._core.sample(nodes, fraction, minimum)
        log_sampled(caller, len(chosen), len(nodes))
        return chosen
