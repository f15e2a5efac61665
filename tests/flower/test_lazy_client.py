"""lasg_client: a NumPyClient of start_client under LegacyLazyFedAvg, beside FedAvg."""

import logging
from typing import Any

import numpy as np
import pytest
from flwr.client import Client, NumPyClient
from flwr.common import FitIns, FitRes, Parameters, ndarrays_to_parameters
from flwr.common import parameters_to_ndarrays as arrays_of
from flwr.server import SimpleClientManager
from flwr.server.strategy import FedAvg

from lasg_flwr import AllNodesFailedError
from lasg_flwr.clients import lasg_client
from lasg_flwr.strategies import LegacyLazyFedAvg
from tests.problems.legacy_proxy import ClientProxyOf
from tests.problems.mod_apps import ORACLES, SIZE

pytestmark = pytest.mark.flower

NODES = 3
DENSE: Any = {"codec": "dense", "downlink": "dense"}


class Trainer(NumPyClient):
    """Ten steps on its own data; counts how often it trains."""

    def __init__(self, node: int, arrays: int = 2) -> None:
        self.data, self.node, self.arrays = ORACLES[node], node, arrays
        self.runs = 0

    def fit(self, parameters: Any, config: Any) -> Any:
        self.runs += 1
        theta, steps = parameters
        for _ in range(10):
            theta = theta - 0.05 * self.data.gradient(theta, np.arange(20))
        made = [theta, steps + 1][: self.arrays]
        return made, 1 + self.node, {"rate": config["rate"]}

    def evaluate(self, parameters: Any, config: Any) -> Any:
        return float(np.linalg.norm(parameters[0])), 3, {}


class Raising(Trainer):
    """Fails when it trains."""

    def fit(self, parameters: Any, config: Any) -> Any:
        raise FileNotFoundError("no data at /data")


def rate(server_round: int) -> dict[str, Any]:
    return {"rate": 0.5**server_round}


def start_parameters() -> Parameters:
    return ndarrays_to_parameters([np.zeros(SIZE, np.float32), np.array(7)])


def run(strategy: Any, clients: list[Client], rounds: int = 6) -> list[Any]:
    """Run rounds as Flower's older server does; return the arrays."""
    manager, parameters = SimpleClientManager(), start_parameters()
    for i, client in enumerate(clients):
        manager.register(ClientProxyOf(str(i), client))
    for k in range(1, rounds + 1):
        results: list[Any] = []
        failures: list[Any] = []
        for proxy, ins in strategy.configure_fit(k, parameters, manager):
            answer = proxy.fit(ins, None, None)
            good = answer.status.code.value == 0
            (results if good else failures).append((proxy, answer))
        made, _ = strategy.aggregate_fit(k, results, failures)
        if made is not None:
            parameters = made
        for proxy, ins in strategy.configure_evaluate(k, parameters, manager):
            answer = proxy.evaluate(ins, None, None)
            loss = float(np.linalg.norm(arrays_of(parameters)[0]))
            assert answer.loss == pytest.approx(loss, rel=1e-6)
    return list(arrays_of(parameters))


def lazy(**options: Any) -> LegacyLazyFedAvg:
    return LegacyLazyFedAvg(on_fit_config_fn=rate, **options)


def test_dense_uploads_give_fedavgs_model() -> None:
    plain = run(
        FedAvg(on_fit_config_fn=rate), [Trainer(i).to_client() for i in range(NODES)]
    )
    strategy = lazy(
        **DENSE,
        fit_metrics_aggregation_fn=lambda pairs: {"rates": str(pairs[0][1])},
    )
    trainers = [Trainer(i) for i in range(NODES)]
    made = run(strategy, [lasg_client(client) for client in trainers])
    np.testing.assert_allclose(made[0], plain[0], rtol=1e-5, atol=1e-6)
    assert made[1] == 7
    assert [trainer.runs for trainer in trainers] == [6] * NODES
    assert strategy.ledger.uploads == 6 * NODES


def test_two_runs_skip() -> None:
    with pytest.warns(UserWarning, match="use c <= 4"):
        strategy = lazy(effort="two-runs", rule="wk2:c=1e9", **DENSE)
    trainers = [Trainer(i) for i in range(NODES)]
    run(strategy, [lasg_client(client, key=i) for i, client in enumerate(trainers)])
    assert strategy.ledger.skips == 5 * NODES
    assert [trainer.runs for trainer in trainers] == [2 + 1 + 5 * 2] * NODES


def test_other_strategies_pass_through() -> None:
    plain = run(
        FedAvg(on_fit_config_fn=rate), [Trainer(i).to_client() for i in range(NODES)]
    )
    wrapped = [lasg_client(Trainer(i)) for i in range(NODES)]
    made = run(FedAvg(on_fit_config_fn=rate), wrapped)
    np.testing.assert_allclose(made[0], plain[0], rtol=1e-5)  # sums in any order


def test_a_client_that_fails_says_why_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clients = [lasg_client(Trainer(0)), lasg_client(Trainer(1, arrays=1))]
    strategy = lazy(downlink="dense")  # so that clients evaluate θ itself
    with caplog.at_level(logging.WARNING, logger="flwr"):
        run(strategy, [*clients, lasg_client(Raising(2))], 2)
    assert strategy.ledger.uploads == 2
    assert "returned 1 arrays, the model has 2" in caplog.text
    assert "FileNotFoundError: no data at /data" in caplog.text


@pytest.mark.parametrize(
    ("clients", "cause", "rounds"),
    [
        ([lasg_client(Trainer(i, arrays=1)) for i in (0, 1)], "returned 1 arrays", 1),
        ([lasg_client(Raising(i)) for i in (0, 1)], "no data at", 3),
    ],
    ids=["another-model", "raises"],
)
def test_a_run_without_hope_ends_at_once(
    clients: list[Client], cause: str, rounds: int
) -> None:
    strategy = lazy()
    with pytest.raises(AllNodesFailedError, match=cause):
        run(strategy, clients, 5)
    assert strategy.server.round == rounds


def test_a_client_without_the_wrapper_is_told_of_it() -> None:
    class Garbled(NumPyClient):
        def fit(self, parameters: Any, config: Any) -> Any:
            return parameters, 1, {}

    with pytest.raises(AllNodesFailedError, match=r"lasg_client\(client\)"):
        run(lazy(), [Garbled().to_client() for _ in range(2)], 5)


def test_what_is_not_trained_is_passed_on() -> None:
    client = lasg_client(Trainer(0))
    answer: FitRes = client.fit(FitIns(start_parameters(), {"rate": 1.0}))
    assert len(answer.parameters.tensors) == 2


def test_message_bytes_are_counted() -> None:
    strategy = lazy(**DENSE)
    run(strategy, [lasg_client(Trainer(i)) for i in range(NODES)], 2)
    ledger = strategy.ledger
    assert 0 < ledger.uplink_bytes < ledger.uplink_message_bytes < 2_500
    assert 0 < ledger.downlink_bytes < ledger.downlink_message_bytes < 6_000
