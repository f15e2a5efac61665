"""The ClientApp: a NumPyClient, built anew for every message."""

from typing import Any

import torch
from flwr.app import Context
from flwr.client import Client, NumPyClient
from flwr.clientapp import ClientApp
from flwr.common import NDArrays

from olderexample.task import Loader, Net, load_data, test, train
from olderexample.weights import get_weights, set_weights


class FlowerClient(NumPyClient):
    """Trains and evaluates on the node's own images."""

    def __init__(self, loaders: tuple[Loader, Loader], steps: int, seed: int) -> None:
        self.net = Net()
        self.train_loader, self.test_loader = loaders
        self.steps = steps
        self.seed = seed

    def fit(
        self, parameters: NDArrays, config: dict[str, Any]
    ) -> tuple[NDArrays, int, dict[str, Any]]:
        """Train the received model."""
        set_weights(self.net, parameters)
        torch.manual_seed(self.seed + 10_000 * config["server_round"])
        loss = train(self.net, self.train_loader, self.steps, config["lr"])
        examples = len(self.train_loader.dataset)
        return get_weights(self.net), examples, {"train_loss": loss}

    def evaluate(
        self, parameters: NDArrays, config: dict[str, Any]
    ) -> tuple[float, int, dict[str, Any]]:
        """Evaluate the received model."""
        set_weights(self.net, parameters)
        loss, accuracy = test(self.net, self.test_loader)
        return loss, len(self.test_loader.dataset), {"accuracy": accuracy}


def client_fn(context: Context) -> Client:
    """Build the client of one message."""
    node, run = context.node_config, context.run_config
    loaders = load_data(
        run["data-dir"], node["partition-id"], node["num-partitions"], run["batch-size"]
    )
    seed = run["seed"] * 100_000_000 + node["partition-id"]
    return FlowerClient(loaders, run["local-steps"], seed).to_client()


app = ClientApp(client_fn=client_fn)
