"""Sparse local SGD through the legacy strategy: the engine's path, and faults."""

from typing import Any

import numpy as np
import pytest
from flwr.common import (
    Code,
    FitIns,
    ndarrays_to_parameters,
)
from flwr.server import SimpleClientManager

from lasg_flwr.clients import LasgNumPyClient
from lasg_flwr.strategies import LegacyLasgStrategy
from lasg_flwr.vectors import F32
from tests.problems.legacy_proxy import Proxy
from tests.problems.sparse_flower import (
    OPTIONS,
    ROUNDS,
    SIZE,
    TOTALS,
    WORKERS,
    Watch,
    engine,
    oracle,
)

pytestmark = pytest.mark.flower


class Legacy:
    """LegacyLasgStrategy over lasting clients in this process, with faults."""

    def __init__(self, seed: int | None) -> None:
        self.dice = None if seed is None else np.random.default_rng(seed)
        self.manager = SimpleClientManager()
        self.proxies = [
            Proxy(f"client-{k}", LasgNumPyClient(oracle(k), key=k))
            for k in range(WORKERS)
        ]
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
        assert proxy.client is not None
        legacy.watch.check(key, proxy.client.worker.state)
