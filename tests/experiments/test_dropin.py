"""The drop-in projects: plain, and lazy by the lines of their diffs."""

import gzip
import inspect
import os
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.server.strategy import FedAvg as LegacyFedAvg
from flwr.serverapp.strategy import FedAvg

from experiments.dropin.projects import (
    DIFF,
    FOLDER,
    PROJECTS,
    copy_project,
    load_apps,
)
from experiments.dropin.summary import Row, interval, write_summary
from experiments.flower_run import flwr_run
from experiments.inprocess import InProcessGrid
from lasg_flwr.clients import lasg_mod
from lasg_flwr.strategies import LasgStrategy, LegacyLasgStrategy

QUICK = {"num_server_rounds": 4, "local_steps": 2, "learning_rate": 0.05}
SIZES = {"rounds": 4, "requests": 40}


def mnist(folder: Path) -> Path:
    """Write the first images of MNIST to a folder, in files like MNIST's own."""
    pytest.importorskip("torch", reason="the projects train with PyTorch")
    source = Path(os.environ.get("LASG_DATA") or "LASG_DATA is not set") / "mnist"
    folder.mkdir()
    for part, count in (("train", 2000), ("t10k", 500)):
        for kind, header, size in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
            name = f"{part}-{kind}-ubyte.gz"
            if not (source / name).exists():
                pytest.skip(f"needs the mnist files in LASG_DATA: no {source / name}")
            with gzip.open(source / name) as file:
                first = file.read(header + count * size)
            (folder / name).write_bytes(gzip.compress(first, 1))
    return folder


def changed(project: str) -> tuple[list[str], list[str]]:
    """Return the lines that a diff takes out and puts in."""
    lines = (FOLDER / project / DIFF).read_text().splitlines()
    body = [line for line in lines if not line.startswith(("---", "+++"))]
    return tuple(  # type: ignore[return-value]
        [line[1:].strip() for line in body if line[:1] == sign] for sign in "-+"
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """Run both projects, plain and lazy, once: what was counted, and the model."""
    data = mnist(tmp_path_factory.mktemp("mnist") / "data")
    torch = pytest.importorskip("torch")
    measure = pytest.importorskip("experiments.dropin.measure")
    found, threads = {}, torch.get_num_threads()
    torch.set_num_threads(1)
    for project, variant in product(PROJECTS, ("plain", "lazy")):
        scratch = tmp_path_factory.mktemp(variant)
        apps = load_apps(copy_project(project, variant, scratch / "app"))
        figures = measure.run(apps, data, scratch, **QUICK)
        model = torch.load(scratch / "model.pt", weights_only=True)
        found[project, variant] = figures, model
    torch.set_num_threads(threads)
    return found


@pytest.mark.parametrize(
    ("plain", "lazy"),
    [
        (FedAvg, partial(LasgStrategy, "wk2", step=1.0)),
        (LegacyFedAvg, partial(LegacyLasgStrategy, "wk2", step=1.0)),
    ],
)
def test_the_strategies_take_what_fedavg_takes(plain: Any, lazy: Any) -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(plain).parameters.items()
    }
    assert len(defaults) >= 10
    lazy(**defaults)
    with pytest.raises(ValueError, match="leave it True"):
        LegacyLasgStrategy(accept_failures=False)


def test_an_app_finds_its_records_under_names_of_its_own() -> None:
    app = ClientApp(mods=[lasg_mod])

    def model_of(message: Message) -> Any:
        assert set(message.content) >= {"model", "settings"}
        settings: Any = message.content["settings"]
        assert set(settings) == {"server-round"}
        arrays: Any = message.content["model"]
        return arrays["w"].numpy()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        model = ArrayRecord({"w": Array(model_of(message) / 2)})
        metrics = MetricRecord({"num-examples": 3, "loss": 0.5})
        return Message(RecordDict({"a": model, "b": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"num-examples": 3, "w": float(model_of(message)[0])})
        return Message(RecordDict({"b": metrics}), reply_to=message)

    strategy = LasgStrategy(
        "sgd", step=1.0, arrayrecord_key="model", configrecord_key="settings"
    )
    start = ArrayRecord({"w": Array(np.ones(3, np.float32))})
    result = strategy.start(InProcessGrid(app, 2), start, num_rounds=2)
    assert not result.ledger.refused
    assert result.arrays["w"].numpy().tolist() == [0.25] * 3
    assert result.evaluate_metrics_clientapp[2] == {"w": 0.25}
    shown = repr(result)
    assert "'loss': '5.0000e-01'" in shown
    assert shown.count("lasg-uploads: 4") == 1


def test_the_metrics_are_those_of_the_model_that_the_server_sent() -> None:
    app = ClientApp(mods=[lasg_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays: Any = message.content["arrays"]
        theta = arrays["w"].numpy()
        model = ArrayRecord({"w": Array(theta / 2)})
        metrics = MetricRecord({"num-examples": 3, "seen": float(theta[0])})
        return Message(RecordDict({"a": model, "b": metrics}), reply_to=message)

    with pytest.warns(UserWarning, match="use c <= 4"):
        strategy = LasgStrategy("wk2:c=1e9", step=1.0, fraction_evaluate=0.0)
    start = ArrayRecord({"w": Array(np.ones(3, np.float32))})
    result = strategy.start(InProcessGrid(app, 2), start, num_rounds=3)
    assert result.ledger.skips == 4
    metrics: Any = result.train_metrics_clientapp
    assert [metrics[k]["seen"] for k in (1, 2, 3)] == [1.0, 0.5, 0.0]


@pytest.mark.parametrize("project", PROJECTS)
def test_two_lines_and_their_imports_are_the_difference(project: str) -> None:
    removed, added = changed(project)
    imports = [line for line in added if line.startswith("from lasg_flwr.")]
    assert len(imports) == 2
    code = [line for line in added if line not in imports]
    assert len(code) == 2
    assert sum("mods=[lasg_mod]" in line for line in code) == 1
    assert sum("LazyFedAvg(" in line for line in code) == 1
    assert len([line for line in removed if not line.startswith("from ")]) == 2


@pytest.mark.parametrize("project", PROJECTS)
def test_a_plain_project_has_no_trace_of_this_package(project: str) -> None:
    files = [
        path
        for path in (FOLDER / project).rglob("*")
        if path.suffix in (".py", ".toml", ".md")
    ]
    assert len(files) >= 5
    for path in files:
        text = path.read_text().lower()
        assert "lasg" not in text, path
        assert "experiments" not in text, path


def test_both_projects_have_the_same_task() -> None:
    first, second = (next((FOLDER / p).glob("*/task.py")) for p in PROJECTS)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("project", PROJECTS)
def test_the_lazy_project_uploads_less_and_saves_a_model_like_the_plain_one(
    project: str, runs: dict[tuple[str, str], Any]
) -> None:
    (plain, old), (lazy, new) = runs[project, "plain"], runs[project, "lazy"]
    assert {n: plain[n] for n in SIZES} == {n: lazy[n] for n in SIZES} == SIZES
    assert lazy["uploads"] == plain["uploads"] == 40
    for name in ("uplink_payload_bytes", "uplink_message_bytes"):
        assert 10 * lazy[name] < plain[name]
    assert plain["uplink_payload_bytes"] == 40 * 4 * sum(
        v.numel() for v in old.values()
    )
    assert [(n, v.shape, v.dtype) for n, v in new.items()] == [
        (n, v.shape, v.dtype) for n, v in old.items()
    ]
    assert lazy["test_loss"] < np.log(10)  # what a network knows before training
    assert lazy["test_loss"] != plain["test_loss"]


def test_both_lazy_projects_take_the_same_path(
    runs: dict[tuple[str, str], Any],
) -> None:
    first, second = (runs[project, "lazy"][1] for project in PROJECTS)
    assert all((first[name] == second[name]).all() for name in first)


@pytest.mark.parametrize("project", PROJECTS)
def test_with_two_runs_a_worker_skips(
    project: str, tmp_path: Path, runs: dict[tuple[str, str], Any]
) -> None:
    data = mnist(tmp_path / "data")
    measure = pytest.importorskip("experiments.dropin.measure")
    apps = load_apps(copy_project(project, "two-runs", tmp_path / "app"))
    figures = measure.run(apps, data, tmp_path, **{**QUICK, "num_server_rounds": 8})
    assert figures["requests"] == 80
    assert figures["uploads"] < 80  # and it is not refused: it repeats itself
    assert figures["test_loss"] < runs[project, "plain"][0]["test_loss"]


@pytest.mark.slow
@pytest.mark.ray
def test_the_lazy_quickstart_runs_under_flwr_run(tmp_path: Path) -> None:
    data, model = mnist(tmp_path / "data"), tmp_path / "model.pt"
    project = copy_project(PROJECTS[0], "lazy", tmp_path / "project")
    changes = (
        f'num-server-rounds=2 local-steps=2 data-dir="{data}" model-file="{model}"'
    )
    done = flwr_run(project, changes, 2, timeout=280)
    output = done.stdout + done.stderr
    assert model.exists(), output[-4000:]
    assert "lasg: round 1: contacted 2" in output


def row(variant: str, seed: int, uploads: int, accuracy: float) -> Row:
    sizes = (3, 30, uploads, 10 * uploads, 20 * uploads, 1000)
    return Row(PROJECTS[0], variant, seed, *sizes, 0.1, accuracy, 1.0)


def test_the_summary_pairs_runs_by_seed(tmp_path: Path) -> None:
    for seed, (plain, lazy) in enumerate([(0.97, 0.96), (0.98, 0.98), (0.96, 0.97)]):
        row("plain", seed, 30, plain).append_to(tmp_path / "runs.csv")
        row("lazy", seed, 10, lazy).append_to(tmp_path / "runs.csv")
    table = write_summary(tmp_path)
    assert "| lazy | 10 (1/3.0) |" in table
    half = interval([-1.0, 0.0, 1.0])[1]
    assert f"+0.00 ± {half:.2f}" in table
    with pytest.raises(ValueError, match="2 to 10 seeds, got 1"):
        interval([0.5])
