"""The ServerApp."""

import json
from pathlib import Path

from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from sklearnexample import task

app = ServerApp()


@app.main()
def main(grid, context):
    """Train for the configured rounds, then save loss and accuracy on test data."""
    config = context.run_config
    found = {}

    def evaluate(server_round, arrays):
        model = task.new_model(config["seed"])
        task.set_arrays(model, arrays)
        found["loss"], found["accuracy"] = task.test(model, task.test_data())
        return MetricRecord(found)

    strategy = FedAvg(fraction_evaluate=0.5)
    strategy.start(
        grid,
        ArrayRecord(task.get_arrays(task.new_model(config["seed"]))),
        num_rounds=config["num-server-rounds"],
        evaluate_fn=evaluate,
    )
    Path(config["result-file"]).write_text(json.dumps(found))
