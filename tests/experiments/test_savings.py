"""What the methods must save on real data."""

from dataclasses import replace
from typing import Any

import pytest

from experiments.batches import Batch
from experiments.commands import DEFAULTS
from experiments.compare import compare, plan
from experiments.reproduce import config
from experiments.training import task_of, to_target, train
from tests.problems.real_data import task_or_skip

ALL = "sgd,lag,wk1,wk2,ps,pse"


def uploads_to_target(
    dataset: str, partition: str, factor: float, methods: str = ALL
) -> dict[str, int]:
    """Run the comparison with its defaults; uploads to `factor` x SGD's final loss."""
    base = replace(DEFAULTS[dataset], partition=partition)
    task = task_or_skip(dataset, base.workers, partition, base.batch)
    found = compare(plan(base, methods.split(","), ["dense"]), lambda _: task)
    target = factor * found.summary["runs"][0]["final_loss"]
    return {
        method: next(
            row["uploads"]
            for row in found.history
            if row["method"] == method and row["loss"] <= target
        )
        for method in methods.split(",")
    }


@pytest.mark.slow
@pytest.mark.parametrize("partition", ["iid", "by-label"])
def test_savings_on_ijcnn1(partition: str) -> None:
    found = uploads_to_target("ijcnn1", partition, 1.02)
    assert found["wk2"] <= found["sgd"] / 50
    assert found["ps"] <= found["sgd"] / 20
    assert found["pse"] <= found["sgd"] / 20
    assert found["wk1"] <= found["sgd"] / 8


@pytest.mark.slow
@pytest.mark.parametrize("partition", ["iid", "by-label"])
def test_savings_on_covtype(partition: str) -> None:
    found = uploads_to_target("covtype", partition, 1.02, "sgd,wk1,wk2")
    assert found["wk2"] <= found["sgd"] / 20
    assert found["wk1"] <= found["sgd"] / 10


@pytest.mark.slow
@pytest.mark.parametrize("partition", ["iid", "by-label"])
def test_savings_on_mnist35(partition: str) -> None:
    found = uploads_to_target("mnist35", partition, 1.05, "sgd,lag,wk2,pse")
    assert found["wk2"] <= found["sgd"] / 8
    assert found["pse"] <= 0.65 * found["sgd"]
    assert found["lag"] >= 0.85 * found["sgd"]


def test_the_parts_of_the_study_of_local_steps_multiply() -> None:
    study = config.load("local-steps")
    (place,) = study.places
    task_or_skip("mnist35", 10, "by-label", Batch(size=1))
    entries = {entry.label: entry for entry in study.runs}
    first = study.run(place, entries[str(study.target_run)], 0)
    target = 1.02 * train(first, task_of(first)).totals["final_loss"]

    def counts(label: str) -> dict[str, Any]:
        run = replace(study.run(place, entries[label], 0), stop_at=target)
        return to_target(train(run, task_of(run)).history, target)

    sgd, everything = counts("SGD"), counts("all three")
    assert everything["uplink_bytes_to_target"] * 500 <= sgd["uplink_bytes_to_target"]
    assert counts("local steps, laziness")["uploads_to_target"] <= 200
    fedavg_bytes = 100 * 10 * (12 + 4 * 785)
    assert everything["uplink_bytes_to_target"] * 90 <= fedavg_bytes
    fixed_width = 12 + 4 * 2 + -(-4 * 785 // 8)  # header, norms, levels of 4 bits
    assert everything["uplink_bytes_to_target"] < (
        everything["uploads_to_target"] * fixed_width
    )
    best = counts("all three, 10 % Top-k")["uplink_bytes_to_target"]
    assert best * 1000 <= sgd["uplink_bytes_to_target"]
