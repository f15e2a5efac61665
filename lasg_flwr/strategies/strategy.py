"""LasgStrategy: the server's state machine as a Flower strategy (Message API)."""

import time
from collections.abc import Iterable
from contextlib import nullcontext
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
)
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.strategy_utils import log_strategy_start_info

from .. import records, traffic
from ..cycle import CodecChoice
from ..errors import CompositionError, WireError
from ..rules import Rule
from ..server import LasgServer, Weighting, check_options
from ..settings import Memory, ServerMemory
from ..steps import ServerStep
from .absence import Absence
from .exchange import Closing
from .farewell import farewell
from .intake import MessageIntake
from .loop import EvaluateFn, Loop
from .metrics import Metrics, MetricsAggregation
from .model import Model
from .reports import Reports
from .result import LasgResult
from .sampling import sample, wait_for_nodes
from .saving import Checkpoints


class LasgStrategy(Strategy):
    """Lazily aggregated SGD: workers upload, or are contacted, only if it pays.

    In each round θ^{k+1} = step(θ^k, ∇^k) with ∇^k = Σ w_m h_m / Σ w_m, where h_m is
    the last gradient that worker m uploaded: equations (4) and (5). The rule and the
    codec are chosen here alone and travel in each request.

    Parameters
    ----------
    rule : str or Rule (default: "wk2")
        Who uploads: ``"sgd"``, ``"lag"``, ``"wk1"``, ``"wk2"``, ``"ps"``, ``"pse"``, or
        an object of `lasg_flwr.rules`, such as ``WK2(c=50, max_delay=200)``.
    codec : str, Codec, or sequence of these (default: "dense")
        How uploads are encoded; of several, worker m uses entry m mod n.
    memory : {"innovation", "gradient", "error"} (default: "innovation")
        Whether an upload carries g − h_m, g, or e_m + g (rule ``"sgd"`` only).
    server_memory : {"per-worker", "sum-only"} (default: "per-worker")
        Whether the server holds each h_m, or only their sum.
    step : float or ServerStep (default: 0.1)
        The server's step; a number is the learning rate of plain SGD. 1.0 where
        clients send updates: with `lasg_mod` and `lasg_flwr.local.LocalSteps`.
    weights : {"equal", "examples"} (default: "equal")
        Weights w_m of the workers.
    full_codec, gone_share, seed
        See `lasg_flwr.LasgServer`.
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
    resume : bool (default: True)
        Whether to go on from a checkpoint; False starts anew and replaces it.
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
    norm_bound : float, optional
        See `lasg_flwr.LasgServer`.
    log_file : str or Path, optional
        A line of JSON is appended for every round.
    tensorboard_dir : str or Path, optional
        Where TensorBoard scalars go; needs the package tensorboard.

    Raises
    ------
    ValueError
        If an argument is out of range or does not go together with another.
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
        rule: str | Rule = "wk2",
        codec: CodecChoice = "dense",
        *,
        memory: Memory = "innovation",
        server_memory: ServerMemory = "per-worker",
        step: float | ServerStep = 0.1,
        weights: Weighting = "equal",
        full_codec: CodecChoice | None = None,
        gone_share: float = 0.25,
        seed: int = 0,
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
        resume: bool = True,
        round_seconds: float | None = None,
        reply_share: float = 1.0,
        fail_limit: int | None = 3,
        wait_seconds: float | None = None,
        norm_bound: float | None = None,
        log_file: str | Path | None = None,
        tensorboard_dir: str | Path | None = None,
    ) -> None:
        if not isinstance(evaluate_every, int) or evaluate_every < 1:
            raise ValueError(
                f"evaluate_every must be an integer >= 1, got {evaluate_every!r}"
            )
        if isinstance(buffers, str):
            raise ValueError(f"buffers must be a list of names, got {buffers!r}")
        for share in (fraction_train, fraction_evaluate):
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"a fraction must lie in [0, 1], got {share!r}")
        self._server_options: dict[str, Any] = {
            "rule": rule,
            "codec": codec,
            "memory": memory,
            "server_memory": server_memory,
            "step": step,
            "weights": weights,
            "full_codec": full_codec,
            "gone_share": gone_share,
            "seed": seed,
            "norm_bound": norm_bound,
        }
        check_options(**self._server_options)
        self.buffers = None if buffers is None else frozenset(buffers)
        self.evaluate_every = evaluate_every
        self.fraction_train = fraction_train
        self.fraction_evaluate = fraction_evaluate
        self.min_train_nodes = min_train_nodes if fraction_train else 0
        self.min_evaluate_nodes = min_evaluate_nodes if fraction_evaluate else 0
        self.min_available_nodes = min_available_nodes
        self.weighted_by_key = weighted_by_key
        self._app_keys = records.app_keys(arrayrecord_key, configrecord_key)
        self._train_metrics = Metrics(train_metrics_aggr_fn, weighted_by_key)
        self._evaluate_metrics = Metrics(evaluate_metrics_aggr_fn, weighted_by_key)
        self.closing = Closing(round_seconds, reply_share)
        self.wait_seconds = wait_seconds
        self.resume = resume
        self._checkpoints = (
            None
            if checkpoint_dir is None
            else Checkpoints(Path(checkpoint_dir), checkpoint_every)
        )
        self._reports = Reports(log_file, tensorboard_dir)
        self._intake = MessageIntake(fail_limit)
        self._absence = Absence(leave_after)
        self._started: tuple[LasgServer, Model] | None = None
        self._opened = 0.0

    @property
    def server(self) -> LasgServer:
        """The state machine behind this strategy; there is one once it has started."""
        return self._running()[0]

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
        model = Model(named, self.buffers)
        server = model.server(**self._server_options)
        self._absence.last_seen = {}
        if self._checkpoints is not None and self.resume:
            self._absence.last_seen = self._checkpoints.load(server, model) or {}
        self._started = (server, model)

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
        """
        checkpoints = self._checkpoints
        lock = nullcontext() if checkpoints is None else checkpoints.locked()
        with lock, farewell(self._last_words):
            self._started = None
            self.begin(initial_arrays)
            server, model = self._running()
            log(INFO, "Starting %s strategy:", self.__class__.__name__)
            log_strategy_start_info(
                num_rounds, initial_arrays, train_config, evaluate_config
            )
            self.summary()
            loop = Loop(
                self,
                grid,
                timeout,
                self.closing,
                train_config or ConfigRecord(),
                evaluate_config or ConfigRecord(),
                evaluate_fn,
            )
            arrays = initial_arrays
            if server.round:
                arrays = records.named_arrays(model.arrays(server))
            rounds = loop.run(arrays, server.round, num_rounds)
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
            log(INFO, "\t%s", line)
        log(INFO, "")
        return result

    def _last_words(self) -> str:
        done = 0 if self._started is None else self.server.round
        if self._checkpoints is None:
            remedy = "pass checkpoint_dir=... to be able to resume"
        else:
            remedy = self._checkpoints.remedy()
        return f"stopped in round {done}; {remedy}"

    def _save(self, last: bool = False) -> None:
        """Write the checkpoint if one is due; `last` if none was for this round."""
        server, model = self._running()
        if self._checkpoints is None or not server.round:
            return
        if (server.round % self._checkpoints.every == 0) != last:
            self._checkpoints.save(server, model, self._absence.last_seen)

    def summary(self) -> None:
        """Log the configuration."""
        settings = self.server.settings
        log(INFO, "\t├──> Lazy aggregation:")
        log(INFO, "\t│\t├── Rule: %s (c = %g)", self.server.rule, self.server.c)
        log(INFO, "\t│\t├── Codec: %s | memory: %s", settings.codec, settings.memory)
        log(INFO, "\t│\t└── Server memory: %s", settings.server_memory)
        if self._checkpoints is not None:
            log(INFO, "\t├──> %s", self._checkpoints)
        log(INFO, "\t└──> Sampling:")
        fractions = (self.fraction_train, self.fraction_evaluate)
        log(INFO, "\t\t├── Fraction: train (%.2f) | evaluate (%.2f)", *fractions)
        minima = (self.min_train_nodes, self.min_evaluate_nodes)
        log(INFO, "\t\t├── Minimum nodes: train (%d) | evaluate (%d)", *minima)
        log(INFO, "\t\t└── Minimum available nodes: %d", self.min_available_nodes)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the workers that this round needs; PS and PSE leave the others alone."""
        server, model = self._running()
        if self.fraction_train == 0.0:
            return []
        nodes = self._sample(grid, self.fraction_train, self.min_train_nodes)
        nodes = self._intake.failures.reachable(nodes, server.round)
        config["server-round"] = server_round
        config.update(self._app_keys)
        packed = records.model_record(model.packed(server))
        self._opened = time.perf_counter()
        sent = [
            Message(
                content=records.train_content(
                    request, packed, model.layout_json, config
                ),
                message_type=MessageType.TRAIN,
                dst_node_id=node,
            )
            for node, request in server.open_round(nodes)
        ]
        self._intake.open(sent)
        self._count_traffic(traffic.of_requests(sent))
        return sent

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Take in the replies, close the round and return θ^{k+1}."""
        if self.fraction_train == 0.0:
            return None, None
        server, model = self._running()
        replies = list(replies)
        self._count_traffic(traffic.of_replies(replies))
        taken = [self._intake.take(server, reply) for reply in replies]
        contents = [content for content in taken if content is not None]
        report = server.close_round()
        self._intake.failures.close(report.round)
        self._reports.add(report, server.ledger, time.perf_counter() - self._opened)
        self._save()
        metrics = self._train_metrics.aggregate(contents) or MetricRecord()
        metrics.update(server.ledger.as_metrics())
        return records.named_arrays(model.arrays(server)), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the model to be evaluated, every `evaluate_every` rounds."""
        if self.fraction_evaluate == 0.0 or server_round % self.evaluate_every:
            return []
        server, model = self._running()
        nodes = self._sample(grid, self.fraction_evaluate, self.min_evaluate_nodes)
        config["server-round"] = server_round
        config.update(self._app_keys)
        packed = records.model_record(model.packed(server))
        content = records.evaluate_content(packed, model.layout_json, config)
        return [Message(content, node, MessageType.EVALUATE) for node in nodes]

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Aggregate the clients' losses and metrics."""
        contents = []
        for message in replies:
            if message.has_error():
                self._intake.complain(message, message.error.reason)
                continue
            try:
                found = records.evaluate_metrics(message.content, self.weighted_by_key)
                contents.append(found)
            except WireError as error:
                self._intake.complain(message, str(error))
        return self._evaluate_metrics.aggregate(contents)

    def _running(self) -> tuple[LasgServer, Model]:
        if self._started is None:
            raise CompositionError(
                "LasgStrategy must be started by its own start(): wrappers that drive "
                "it, such as Flower's differential-privacy strategies, clip whole "
                "models and do not compose with gradient innovations. Remove the "
                "wrapper; a custom loop calls strategy.begin(initial_arrays) first"
            )
        return self._started

    def _sample(self, grid: Grid, fraction: float, minimum: int) -> list[int]:
        """Return the nodes that a round can reach, in a repeatable order."""
        server = self.server
        available = max(self.min_available_nodes, minimum)
        nodes = wait_for_nodes(
            grid.get_node_ids, available, wait_seconds=self.wait_seconds
        )
        self._absence.note(server, set(nodes))
        self._intake.failures.keep(nodes)
        nodes.sort(key=server.roster.order)
        count = max(int(len(nodes) * fraction), minimum)
        return sample(nodes, count, server.settings.seed, server.round)

    def _count_traffic(self, moved: traffic.Traffic) -> None:
        ledger = self.server.ledger
        ledger.uplink_message_bytes += moved.uplink_bytes
        ledger.downlink_message_bytes += moved.downlink_bytes
