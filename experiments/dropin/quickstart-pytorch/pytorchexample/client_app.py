"""The ClientApp."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from pytorchexample.task import Loader, Net, load_data
from pytorchexample.task import test as test_fn
from pytorchexample.task import train as train_fn

app = ClientApp()


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the received model on the node's own images."""
    model = load_model(msg)
    loader, _ = load_own_data(context)
    config = msg.content["config"]
    torch.manual_seed(seed_of(context, config["server-round"]))
    steps = context.run_config["local-steps"]
    train_loss = train_fn(model, loader, steps, config["lr"])
    metrics = {"train_loss": train_loss, "num-examples": len(loader.dataset)}
    content = RecordDict(
        {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord(metrics)}
    )
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Evaluate the received model on the node's own images."""
    model = load_model(msg)
    _, loader = load_own_data(context)
    loss, accuracy = test_fn(model, loader)
    metrics = {
        "eval_loss": loss,
        "eval_acc": accuracy,
        "num-examples": len(loader.dataset),
    }
    content = RecordDict({"metrics": MetricRecord(metrics)})
    return Message(content=content, reply_to=msg)


def load_model(msg: Message) -> Net:
    """Return the model with the received weights."""
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    return model


def load_own_data(context: Context) -> tuple[Loader, Loader]:
    """Return the loaders of this node's partition."""
    return load_data(
        context.run_config["data-dir"],
        context.node_config["partition-id"],
        context.node_config["num-partitions"],
        context.run_config["batch-size"],
    )


def seed_of(context: Context, server_round: int) -> int:
    """Return a seed of its own for each run, round and node."""
    run, node = context.run_config["seed"], context.node_config["partition-id"]
    return (run * 10_000 + server_round) * 10_000 + node
