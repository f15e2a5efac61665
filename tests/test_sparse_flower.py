"""Sparse local SGD through Flower, of either API: k by device, growing batches, faults.

The law under faults: for every device, what the server accepted and the error that the
device keeps add up to all that it ever computed, and θ moved by exactly what was
accepted.
"""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message
from flwr.client import Client, ClientApp
from flwr.common import (
    Code,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetParametersIns,
    GetParametersRes,
    GetPropertiesIns,
    GetPropertiesRes,
    ndarrays_to_parameters,
)
from flwr.server import SimpleClientManager
from flwr.server.client_proxy import ClientProxy

from lasg_flwr import LasgServer, simulate, wire
from lasg_flwr.clients import LasgNumPyClient
from lasg_flwr.cycle import codec_of
from lasg_flwr.growing import BatchSchedule, GrowingBatches
from lasg_flwr.local import LocalSteps
from lasg_flwr.messages import Reply
from lasg_flwr.oracle import Oracle
from lasg_flwr.server import Verdict
from lasg_flwr.strategies import LasgStrategy, LegacyLasgStrategy
from lasg_flwr.vectors import F32, F64
from lasg_flwr.worker import WorkerState
from lasg_flwr.worker_state import load

from .inprocess import InProcessGrid
from .sparse_problems import sized

pytestmark = pytest.mark.flower

WORKERS, SIZE, ROUNDS = 4, 6, 40
CODECS = ["topk:k=1", "topk:k=2", "topk:fraction=0.5"]
OPTIONS: dict[str, Any] = {
    "rule": "sgd",
    "codec": CODECS,
    "memory": "error",
    "step": 1.0,
    "seed": 4,
}
FLOWER = {**OPTIONS, "fraction_evaluate": 0.0, "min_train_nodes": WORKERS}
TOTALS: dict[int, F64] = {}
"""Σ u of each device: clients are built anew for every message."""


class Noted(LocalSteps):
    """Local steps that add up what they return."""

    def gradient(self, theta: F32, batch: Any) -> F32:
        update = super().gradient(theta, batch)
        key: int = self.__dict__["key"]
        TOTALS[key] = TOTALS.get(key, np.zeros(SIZE)) + update
        return update


def oracle(key: int) -> Oracle:
    growing = GrowingBatches(sized(WORKERS)[key], BatchSchedule(2, 1.05))
    noted = Noted(growing, 3, 0.05)
    noted.__dict__["key"] = key
    return noted


def client_fn(context: Context) -> Client:
    key = int(context.node_config["partition-id"])
    return LasgNumPyClient(oracle(key), context).to_client()


def engine() -> F32:
    TOTALS.clear()
    oracles = [oracle(key) for key in range(WORKERS)]
    result = simulate(oracles, np.zeros(SIZE), rounds=ROUNDS, **OPTIONS)
    TOTALS.clear()
    return result.theta


def _state(context: Context) -> Any:
    state = context.state.config_records["lasg.state"]["worker"]
    assert isinstance(state, bytes)
    return load(state)


class Watch:
    """What a server accepted, from each device; θ must move by the mean of it."""

    def __init__(self, server: LasgServer) -> None:
        self.accepted: dict[int, F64] = defaultdict(lambda: np.zeros(SIZE))
        self.server = server
        self._receive, self._close = server.receive, server.close_round
        self._round = np.zeros(SIZE)
        server.receive = self.receive  # type: ignore[method-assign]
        server.close_round = self.close  # type: ignore[method-assign]

    def receive(self, node: int, reply: Reply) -> Verdict:
        verdict = self._receive(node, reply)
        if verdict.kept:
            codec = codec_of(self.server.settings.codec, reply.key)
            decoded = wire.decode(reply.payload, codec, SIZE)
            self.accepted[reply.key] += decoded
            self._round += decoded
        return verdict

    def close(self) -> Any:
        before = self.server.theta
        report = self._close()
        weight = self.server.aggregate.weight
        moved = (before - self._round / weight).astype(np.float32)
        assert self.server.theta.tobytes() == moved.tobytes()
        self._round = np.zeros(SIZE)
        return report

    def check(self, key: int, state: WorkerState) -> None:
        """Σ accepted + e_m = Σ u."""
        pending = state.pending
        assert pending is not None
        accepted = pending.id == self.server.roster.records[key].id
        kept: Any = pending.h if accepted else pending.lost
        total = self.accepted[key] + kept
        np.testing.assert_allclose(total, TOTALS[key], rtol=0, atol=1e-10)


def start(strategy: LasgStrategy, grid: InProcessGrid) -> F32:
    arrays = ArrayRecord({"theta": Array(np.zeros(SIZE, np.float32))})
    result = strategy.start(grid, arrays, ROUNDS)
    theta: F32 = result.arrays["theta"].numpy()
    return theta


@pytest.mark.parametrize("shuffle", [None, 1])
def test_flower_takes_the_engines_path_to_the_bit(shuffle: int | None) -> None:
    expected = engine()
    grid = InProcessGrid(ClientApp(client_fn), WORKERS, shuffle)
    assert start(LasgStrategy(**FLOWER), grid).tobytes() == expected.tobytes()


class FaultyGrid(InProcessGrid):
    """Loses, repeats and delays messages, from the second round on."""

    def __init__(self, seed: int) -> None:
        super().__init__(ClientApp(client_fn), WORKERS)
        self.dice = np.random.default_rng(seed)
        self.late: list[Message] = []
        self.lost = self.delayed = self.repeated = 0
        self.calm = True

    def send_and_receive(
        self, messages: Any, *, timeout: float | None = None
    ) -> list[Message]:
        replies = [r for m in messages for r in self._exchange(m)]
        self.calm = False
        if self.late and self.dice.random() < 0.5:
            replies.append(self.late.pop(0))
        return replies

    def _exchange(self, message: Message) -> list[Message]:
        fate = 1.0 if self.calm else self.dice.random()
        if fate < 0.1:
            return []
        replies = [self._deliver(message)]
        if fate < 0.3:
            self.lost += 1
            return []
        if fate < 0.4:
            self.delayed += 1
            self.late.append(replies.pop())
        elif fate < 0.5:
            self.repeated += 1
            replies.append(self._deliver(message))
        return replies


class Watched(LasgStrategy):
    """A strategy whose server is watched."""

    watch: Watch

    def begin(self, initial_arrays: ArrayRecord) -> None:
        super().begin(initial_arrays)
        self.watch = Watch(self.server)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_lost_or_doubled_through_a_faulty_grid(seed: int) -> None:
    TOTALS.clear()
    grid, server = FaultyGrid(seed), Watched(**FLOWER, fail_limit=None)
    start(server, grid)
    assert min(grid.lost, grid.delayed, grid.repeated) > 3
    assert server.server.ledger.refused["other round"] > 0
    for context in grid.contexts.values():
        key = int(context.node_config["partition-id"])
        server.watch.check(key, _state(context))


class Proxy(ClientProxy):
    """A lasting client in this process."""

    def __init__(self, key: int) -> None:
        super().__init__(f"client-{key}")
        self.client = LasgNumPyClient(oracle(key), key=key)

    def fit(self, ins: FitIns, timeout: float | None, group_id: int | None) -> FitRes:
        return self.client.to_client().fit(ins)

    def get_properties(
        self, ins: GetPropertiesIns, timeout: float | None, group_id: int | None
    ) -> GetPropertiesRes:
        raise NotImplementedError

    def get_parameters(
        self, ins: GetParametersIns, timeout: float | None, group_id: int | None
    ) -> GetParametersRes:
        raise NotImplementedError

    def evaluate(
        self, ins: EvaluateIns, timeout: float | None, group_id: int | None
    ) -> EvaluateRes:
        raise NotImplementedError

    def reconnect(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:
        raise NotImplementedError


class Legacy:
    """LegacyLasgStrategy over lasting clients in this process, with faults."""

    def __init__(self, seed: int | None) -> None:
        self.dice = None if seed is None else np.random.default_rng(seed)
        self.manager = SimpleClientManager()
        self.proxies = [Proxy(key) for key in range(WORKERS)]
        for proxy in self.proxies:
            self.manager.register(proxy)
        initial = ndarrays_to_parameters([np.zeros(SIZE, np.float32)])
        self.strategy = LegacyLasgStrategy(
            **OPTIONS, initial_parameters=initial, min_fit_clients=WORKERS
        )
        self.late: list[Any] = []
        self.restarts = 0
        self.watch: Watch | None = None

    def run(self) -> F32:
        parameters: Any = self.strategy.initialize_parameters(self.manager)
        for round_ in range(1, ROUNDS + 1):
            asked = self.strategy.configure_fit(round_, parameters, self.manager)
            self.watch = self.watch or Watch(self.strategy.server)
            results: list[Any] = []
            failures: list[Any] = []
            for proxy, ins in asked:
                self._answer(proxy, ins, round_, results, failures)
            if self.late and round_ % 2:
                results.append(self.late.pop(0))
            parameters, _ = self.strategy.aggregate_fit(round_, results, failures)
        return self.strategy.server.theta

    def _answer(
        self, proxy: Any, ins: FitIns, round_: int, results: Any, failures: Any
    ) -> None:
        fate = 1.0 if self.dice is None or round_ == 1 else self.dice.random()
        if fate < 0.1:
            failures.append(ConnectionError("no route"))
            return
        result = proxy.fit(ins, None, None)
        assert result.status.code == Code.OK
        if fate < 0.25:
            failures.append(ConnectionError("reset"))
        elif fate < 0.35:
            self.late.append((proxy, result))
        else:
            results.append((proxy, result))


def test_the_legacy_strategy_takes_the_engines_path_to_the_bit() -> None:
    expected = engine()
    assert Legacy(None).run().tobytes() == expected.tobytes()


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_or_doubled_through_the_legacy_strategy(seed: int) -> None:
    TOTALS.clear()
    legacy = Legacy(seed)
    legacy.run()
    assert legacy.strategy.ledger.refused["other round"] > 0
    assert legacy.strategy.ledger.refused["failure"] > 5
    assert legacy.watch is not None
    for key, proxy in enumerate(legacy.proxies):
        legacy.watch.check(key, proxy.client.worker.state)


class Stop(Exception):
    """The ServerApp dies."""


def test_server_and_clients_restart_and_go_on_to_the_bit(tmp_path: Any) -> None:
    """The server from its checkpoint; clients are built anew for every message."""
    expected = engine()
    grid = InProcessGrid(ClientApp(client_fn), WORKERS)
    arrays = ArrayRecord({"theta": Array(np.zeros(SIZE, np.float32))})

    def die(round_: int, arrays: ArrayRecord) -> None:
        if round_ == 15:
            raise Stop

    with pytest.raises(Stop):
        LasgStrategy(**FLOWER, checkpoint_dir=tmp_path).start(
            grid, arrays, ROUNDS, evaluate_fn=die
        )
    assert start(LasgStrategy(**FLOWER, checkpoint_dir=tmp_path), grid).tobytes() == (
        expected.tobytes()
    )


def test_a_server_restored_to_an_older_round_forgets_what_came_after(
    tmp_path: Any,
) -> None:
    """Devices go back to the error before the uploads that the server forgot."""
    TOTALS.clear()
    grid = InProcessGrid(ClientApp(client_fn), WORKERS)
    arrays = ArrayRecord({"theta": Array(np.zeros(SIZE, np.float32))})

    def die(round_: int, arrays: ArrayRecord) -> None:
        if round_ == 17:  # one round after the last checkpoint
            raise Stop

    options: dict[str, Any] = {"checkpoint_dir": tmp_path, "checkpoint_every": 8}
    with pytest.raises(Stop):
        LasgStrategy(**FLOWER, **options).start(grid, arrays, ROUNDS, evaluate_fn=die)
    before = [_state(context) for context in grid.contexts.values()]
    server = LasgStrategy(**FLOWER, **options)
    server.begin(arrays)
    assert server.server.round == 16
    messages = list(server.configure_train(17, arrays, ConfigRecord(), grid))
    server.aggregate_train(17, list(grid.send_and_receive(messages)))
    assert server.server.ledger.refused.total() == 0
    for context, old in zip(grid.contexts.values(), before, strict=True):
        new, kept = _state(context).pending, old.committed
        # the same θ and batches give the same u; the forgotten one stays in e
        update = old.pending.lost - kept.h
        np.testing.assert_allclose(new.lost, kept.h + 2 * update, rtol=0, atol=1e-12)
        assert np.abs(update).max() > 0
