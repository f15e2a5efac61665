"""LegacyLasgStrategy: over start_server and start_client, and over a ServerApp."""

import logging
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerConfig, SimpleClientManager, start_server

from lasg_flwr import simulate
from lasg_flwr.clients import LasgNumPyClient
from lasg_flwr.strategies import LegacyLasgStrategy
from tests.problems.least_squares import Running, least_squares
from tests.problems.legacy_proxy import Proxy

pytestmark = pytest.mark.flower

ORACLES = least_squares(workers=3)
SIZE = ORACLES[0].size
ROUNDS = 20
ROOT = Path(__file__).parents[2]


def initial() -> Any:
    zeros = [np.zeros((2, 2)), np.array(7), np.zeros(SIZE - 4, np.float32)]
    return ndarrays_to_parameters(zeros)


def expected(rule: str) -> Any:
    return simulate(
        ORACLES, np.zeros(SIZE), rounds=ROUNDS, rule=rule, step=0.05, seed=2
    )


def run_server(address: str, strategy: LegacyLasgStrategy, done: list[Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done.append(
            start_server(
                server_address=address,
                config=ServerConfig(num_rounds=ROUNDS),
                strategy=strategy,
            )
        )


def start_clients(address: str) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.problems.legacy_client", address]
    return [
        subprocess.Popen(
            [*command, str(key)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for key in range(3)
    ]


@pytest.mark.parametrize("rule", ["wk2", "pse"])
def test_lasting_processes_take_the_engines_path(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *arguments: None)  # not in threads
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    strategy = LegacyLasgStrategy(
        rule,
        step=0.05,
        seed=2,
        min_fit_clients=3,
        min_available_clients=3,
        initial_parameters=initial(),
        evaluate_fn=lambda k, arrays, config: (float(np.abs(arrays[2]).sum()), {}),
        fit_metrics_aggregation_fn=lambda pairs: {"clients": len(pairs)},
    )
    done: list[Any] = []
    serve = (address, strategy, done)
    thread = threading.Thread(target=run_server, args=serve, daemon=True)
    thread.start()
    clients = start_clients(address)
    try:
        thread.join(timeout=120)
        assert not thread.is_alive()
    finally:
        for client in clients:
            client.kill()
            client.wait()
    engine = expected(rule)
    weight, steps, bias = strategy.arrays()
    assert (weight.shape, weight.dtype.name, int(steps)) == ((2, 2), "float64", 7)
    theta = np.concatenate([weight.ravel(), bias]).astype(np.float32)
    assert theta.tobytes() == engine.theta.tobytes()
    assert strategy.ledger.uploads == engine.ledger.uploads
    (history,) = done
    assert len(history.losses_distributed) == ROUNDS
    assert len({loss for _, loss in history.losses_centralized}) == ROUNDS + 1
    uploads = dict(history.metrics_distributed_fit["lasg-uploads"])
    assert max(uploads.values()) == engine.ledger.uploads


def drive(strategy: LegacyLasgStrategy, arrays: Any, oracles: list[Any]) -> None:
    """Run rounds as Flower's older server does; what fails is a failure."""
    manager = SimpleClientManager()
    for key, oracle in enumerate(oracles):
        manager.register(Proxy(str(key), LasgNumPyClient(oracle, key=key)))
    parameters = ndarrays_to_parameters(arrays)
    for server_round in range(1, ROUNDS + 1):
        results: list[Any] = []
        failures: list[Any] = []
        asked = strategy.configure_fit(server_round, parameters, manager)
        for proxy, ins in asked:
            try:
                results.append((proxy, proxy.fit(ins, None, None)))
            except ValueError as error:
                failures.append(error)
        if asked:
            found, _ = strategy.aggregate_fit(server_round, results, failures)
            assert found is not None
            parameters = found


def batch_norm_model() -> list[Any]:
    """Arrays in a state_dict's order, all in one BatchNorm layer of three features."""
    first = np.array([1, -2, 0.5], np.float32)
    weight, bias = np.zeros(3, np.float32), np.zeros(3, np.float32)
    return [weight, bias, first, np.ones(3, np.float32), np.array(7)]


class Two(Running):
    """Two buffers of three values: a running mean, and it again."""

    def load_buffers(self, values: Any) -> None:
        super().load_buffers(values[:3])

    def buffers(self) -> Any:
        return np.concatenate([self.values, self.values])


@pytest.mark.parametrize("options", [{}, {"buffers": [2, 3]}])
def test_buffers_are_known_by_position(options: dict[str, Any]) -> None:
    arrays = batch_norm_model()
    strategy = LegacyLasgStrategy("wk2", step=0.05, seed=2, **options)
    drive(strategy, arrays, [Two(oracle) for oracle in ORACLES])
    engine = simulate(
        [Two(oracle) for oracle in ORACLES],
        np.zeros(SIZE),
        rounds=ROUNDS,
        rule="wk2",
        step=0.05,
        seed=2,
        buffers=np.concatenate(arrays[2:4]),
    )
    made = strategy.arrays()
    assert np.concatenate(made[:2]).tobytes() == engine.theta.tobytes()
    assert np.concatenate(made[2:4]).tobytes() == engine.server.buffers.tobytes()
    assert made[2].tobytes() != arrays[2].tobytes()
    assert made[4] == 7
    assert strategy.ledger.uplink_bytes == engine.ledger.uplink_bytes


def test_no_buffers_and_wrong_ones() -> None:
    arrays = batch_norm_model()
    strategy = LegacyLasgStrategy("sgd", buffers=())
    strategy.initialize_parameters(SimpleClientManager())
    strategy._begin(arrays)
    assert strategy.server.theta.size == 12
    with pytest.raises(ValueError, match=r"buffers names \['9'\]"):
        LegacyLasgStrategy("sgd", buffers=[9])._begin(arrays)


def test_a_failing_client_is_named_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Running):
        def gradient(self, theta: Any, batch: Any) -> Any:
            raise ValueError(f"no data at {id(batch):#x}")

    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    strategy = LegacyLasgStrategy("wk2", step=0.05, buffers=[1])
    oracles = [*(Running(oracle) for oracle in ORACLES), Broken(ORACLES[0])]
    with caplog.at_level("WARNING", logger="flwr"):
        drive(strategy, [np.zeros(SIZE, "f4"), np.zeros(3, "f4")], oracles)
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert sum("no data at" in line for line in lines) == 1
    assert sum("failed 3 times in a row" in line for line in lines) == 1  # says whose
    assert len(lines) == 2
    assert 3 < strategy.ledger.refused["failure"] < ROUNDS
    assert strategy.ledger.uploads >= 3


def test_checkpoints_are_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"no checkpoints; .* use LasgStrategy"):
        LegacyLasgStrategy("sgd", checkpoint_dir="runs")
