"""LegacyLasgStrategy: over start_server and start_client, and over a ServerApp."""

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
from flwr.server import ServerConfig, start_server

from lasg_flwr import simulate
from lasg_flwr.strategies import LegacyLasgStrategy

from .problems import least_squares

pytestmark = pytest.mark.flower

ORACLES = least_squares(workers=3)
SIZE = ORACLES[0].size
ROUNDS = 20
ROOT = Path(__file__).parent.parent


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
    command = [sys.executable, "-m", "tests.legacy_client", address]
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
