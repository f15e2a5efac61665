"""Projects of several frameworks, plain and lazy: equal rounds, loss and bytes."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from experiments.dropin.measure import Counter
from experiments.dropin.projects import FRAMEWORKS, copy_project, load_apps
from experiments.inprocess import InProcessGrid

CLIENTS = 4


def run(
    project: str, variant: str, folder: Path, rounds: int
) -> tuple[dict[str, float], Counter]:
    """Run a project in this process; return loss and accuracy, and what it sent."""
    apps = load_apps(copy_project(project, variant, folder / variant))
    file = str(folder / f"{variant}.json")
    config = {**apps.config, "num-server-rounds": rounds, "result-file": file}
    counter = Counter(apps.client)
    grid = InProcessGrid(counter, CLIENTS, run_config=config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what frameworks do is not ours to mend
        apps.server(grid, Context(1, 1, {}, RecordDict(), config))
    failed = [reply.error.reason for reply in grid.replies if reply.has_error()]
    assert not failed, failed[0]
    return json.loads(Path(config["result-file"]).read_text()), counter


@pytest.mark.parametrize("rounds", [10, 30])
@pytest.mark.parametrize("project", FRAMEWORKS)
def test_a_lazy_project_is_as_good_as_the_plain_one(
    project: str, rounds: int, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(FRAMEWORKS[project], reason="the project's framework")
    (plain, sent), (lazy, coded) = (
        run(project, v, tmp_path, rounds) for v in ("plain", "lazy")
    )
    assert coded.requests == sent.requests == coded.uploads == rounds * CLIENTS
    assert plain["accuracy"] > 0.8
    assert lazy["accuracy"] > plain["accuracy"] - 0.02
    assert lazy["loss"] < 1.02 * plain["loss"]
    values: Any = sent.payload_bytes / sent.uploads / 4
    assert coded.payload_bytes < sent.payload_bytes / (10 if values >= 10_000 else 4)
    messages = sent.moved.uplink_bytes / coded.moved.uplink_bytes
    assert messages > 10 or values < 10_000
    print(project, plain, lazy, sent.as_dict(), coded.as_dict())
