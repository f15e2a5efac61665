"""The ClientApp."""

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from sklearnexample import task

app = ClientApp()


@app.train()
def train(msg, context):
    """Train the received model on the node's own images."""
    model, data = received(msg, context), own_data(context)
    config = msg.content["config"]
    loss = task.train(
        model, data, context.run_config["local-steps"], seed_of(context, config)
    )
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(data[1])})
    arrays = ArrayRecord(task.get_arrays(model))
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=msg)


@app.evaluate()
def evaluate(msg, context):
    """Evaluate the received model on the node's own images."""
    data = own_data(context)
    loss, accuracy = task.test(received(msg, context), data)
    metrics = {"loss": loss, "accuracy": accuracy, "num-examples": len(data[1])}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=msg)


def received(msg, context):
    """Return the model with the received weights."""
    model = task.new_model(context.run_config["seed"])
    task.set_arrays(model, msg.content["arrays"])
    return model


def own_data(context):
    """Return the images of this node's partition."""
    node = context.node_config
    return task.load_data(node["partition-id"], node["num-partitions"])


def seed_of(context, config):
    """Return a seed of its own for each run, round and node."""
    run, node = context.run_config["seed"], context.node_config["partition-id"]
    return (run * 1_000 + config["server-round"]) * 1_000 + node
