"""The ServerApp."""

from typing import Any

import torch
from flwr.app import Context
from flwr.common import NDArrays, ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg

from olderexample.task import Net, load_test_data, test
from olderexample.weights import get_weights, set_weights


def weighted_average(metrics: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """Return the mean accuracy, weighted by the clients' examples."""
    total = sum(examples for examples, _ in metrics)
    return {"accuracy": sum(n * m["accuracy"] for n, m in metrics) / total}


def server_fn(context: Context) -> ServerAppComponents:
    """Build strategy and configuration of a run."""
    config = context.run_config
    rounds = config["num-server-rounds"]
    torch.manual_seed(config["seed"])
    net = Net()
    test_data = load_test_data(config["data-dir"])

    def evaluate(
        server_round: int, arrays: NDArrays, _: dict[str, Any]
    ) -> tuple[float, dict[str, Any]] | None:
        set_weights(net, arrays)
        if server_round == rounds:
            torch.save(net.state_dict(), config["model-file"])
        if server_round % config["evaluate-every"]:
            return None
        loss, accuracy = test(net, test_data)
        return loss, {"accuracy": accuracy}

    def fit_config(server_round: int) -> dict[str, Any]:
        return {"server_round": server_round, "lr": config["learning-rate"]}

    strategy = FedAvg(
        fraction_fit=config["fraction-train"],
        fraction_evaluate=config["fraction-evaluate"],
        min_available_clients=2,
        initial_parameters=ndarrays_to_parameters(get_weights(net)),
        evaluate_fn=evaluate,
        on_fit_config_fn=fit_config,
        evaluate_metrics_aggregation_fn=weighted_average,
    )
    return ServerAppComponents(
        strategy=strategy, config=ServerConfig(num_rounds=rounds)
    )


app = ServerApp(server_fn=server_fn)
