"""Networks in the comparison: their data, how they are built, and short runs."""

import io
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from experiments.__main__ import app
from experiments.compare import Compared, compare, plan
from experiments.data import DataError, NetworkData, load_network_data, partition
from experiments.data.shakespeare import LENGTH, load_shakespeare
from experiments.data.tiny_imagenet import load_tiny_imagenet, read_archive
from experiments.run import Run
from experiments.tasks import Batch, Task, build_task
from lasg_flwr import simulate
from tests.problems.real_data import task_or_skip

RNG = np.random.default_rng


# --- data -----------------------------------------------------------------------


def real(name: str) -> NetworkData:
    try:
        return load_network_data(name)
    except DataError as error:
        pytest.skip(f"needs the {name} files in LASG_DATA: {error}")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def urlopen(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    monkeypatch.setenv("LASG_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("offline")
def test_shakespeare_is_cut_by_role() -> None:
    data = real("shakespeare")
    assert data.classes == 65
    assert data.train_x.shape == data.train_y.shape == (17_561, LENGTH)
    assert len(np.unique(data.groups)) == 141
    np.testing.assert_array_equal(data.train_x[:, 1:], data.train_y[:, :-1])
    sizes = [len(part) for part in partition(data.groups, 10, "natural", 0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 1.7 * sizes[-1]


def archive(pixels: int = 32) -> ZipFile:
    """A Tiny ImageNet of two classes, the second one's images grey."""
    file = ZipFile(io.BytesIO(), "w")
    root = "tiny-imagenet-200"
    file.writestr(f"{root}/wnids.txt", "n2\nn1\n")
    file.writestr(f"{root}/val/val_annotations.txt", "v0.JPEG\tn1\t0\t0\t1\t1\n")
    names = [f"train/n2/images/n2_{i}.JPEG" for i in range(3)]
    for name in (*names, "train/n1/images/n1_0.JPEG", "val/images/v0.JPEG"):
        content = io.BytesIO()
        grey = "n1" in name
        Image.new(
            "L" if grey else "RGB", (pixels, pixels), 200 if grey else "red"
        ).save(content, "JPEG")
        file.writestr(f"{root}/{name}", content.getvalue())
    return file


def test_tiny_imagenet_takes_classes_from_the_folders() -> None:
    data = read_archive(archive())
    assert data.train_x.shape == (4, 3, 32, 32)
    assert data.train_y.tolist() == [1, 0, 0, 0]
    assert data.test_y.tolist() == [1]
    assert data.train_x[0].min() == data.train_x[0].max() == 200
    assert data.train_x[1, 0].min() > 200
    assert data.train_x[1, 1].max() < 50


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("load", [load_tiny_imagenet, load_shakespeare])
def test_missing_files_say_where_they_are_from(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LASG_DATA", raising=False)
    with pytest.raises(DataError, match=r"http.*LASG_DATA.*no network in tests"):
        load(tmp_path)


# --- tasks ----------------------------------------------------------------------

torch = pytest.importorskip("torch", reason="needs the extra torch")


def made_up(name: str, examples: int = 40) -> NetworkData:
    """Random examples in the shapes of a data set."""
    rng = RNG(0)
    shape = {"mnist": (1, 28, 28), "tiny-imagenet": (3, 32, 32), "shakespeare": (9,)}
    text = name == "shakespeare"
    x = rng.integers(0, 60 if text else 256, (examples, *shape[name]))
    y = rng.integers(0, 5, (examples, *(shape[name] if text else ())))
    if not text:
        x = x.astype(np.uint8)
    groups = np.repeat(np.arange(4), [16, 12, 8, 4])
    return NetworkData(name, x, y, x[:10], y[:10], 65, groups)


def task_of(name: str, workers: int = 2, batch: int = 4, seed: int = 0) -> Any:
    from experiments.network_task import network_task

    data = made_up(name)
    parts = partition(data.groups, workers, "natural", seed)
    return network_task(data, parts, Batch(size=batch), seed)


def run(
    task: Task, methods: tuple[str, ...] = ("sgd", "wk2"), **changes: Any
) -> Compared:
    given: dict[str, Any] = {"partition": "natural", "iterations": 3}
    given |= {"evaluate_every": 1, "batch_size": 4, "learning_rate": 0.01} | changes
    base = Run("mnist", workers=len(task.oracles), **given)
    return compare(plan(base, methods, [base.codec]), lambda _: task)


def test_the_network_of_mnist_is_the_papers() -> None:
    task = task_of("mnist")
    assert task.size == 21_840
    np.testing.assert_array_equal(task.start(), task_of("mnist").start())
    assert (task.start() != task_of("mnist", seed=1).start()).any()


@pytest.mark.parametrize("name", ["mnist", "shakespeare"])
def test_a_comparison_of_networks(name: str) -> None:
    task = task_of(name)
    found = run(task)
    history, summary = found.history, found.summary
    sgd, wk2 = summary["runs"]
    assert sgd["uploads"] == 6
    assert wk2["uploads"] <= 6
    assert summary["parameters"]["loss_examples"] == 28
    assert summary["parameters"]["accuracy_examples"] == 10
    assert history[3]["loss"] < history[0]["loss"]
    assert history[0]["loss"] == history[4]["loss"]


def test_natural_parts_weigh_by_their_examples() -> None:
    task = task_of("mnist")
    assert [oracle.num_examples for oracle in task.oracles] == [16, 12]
    natural, even = (
        run(task, partition=how, iterations=2).history[1]["loss"]
        for how in ("natural", "iid")
    )
    assert natural != even


def test_batch_norm_statistics_travel_and_are_evaluated_with() -> None:
    pytest.importorskip("torchvision", reason="needs the extra vision")
    task = task_of("tiny-imagenet", batch=2)
    assert "without the first max-pooling" in task.notes["network"]
    oracles, first = task.oracles, task.start_buffers()
    assert first.size == 9600
    done = simulate(
        oracles, task.start(), rounds=1, rule="sgd", step=0.01, buffers=first
    )
    assert (done.server.buffers != first).any()
    losses = []
    for buffers in (first, done.server.buffers, first):
        task.load_buffers(buffers)
        losses.append(task.loss(done.theta))
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.parametrize(
    ("pixels", "pooled"), [(32, False), (64, True)], ids=["32 px", "64 px"]
)
def test_small_images_are_not_pooled_away(pixels: int, pooled: bool) -> None:
    pytest.importorskip("torchvision", reason="needs the extra vision")
    from experiments.networks import tiny_imagenet_network

    network, made = tiny_imagenet_network(200, pixels)
    assert ("without the first" in made) is not pooled
    images = torch.zeros(1, 3, pixels, pixels, dtype=torch.uint8)
    assert network.eval()(images).shape == (1, 200)


def test_mnist_learns() -> None:
    task = task_or_skip("mnist", 4, "iid", Batch(size=12))
    found = run(task, ("wk2",), codec="qsgd:bits=8", partition="iid", iterations=50,
                evaluate_every=25, batch_size=12, learning_rate=0.2,
                max_delay=50)  # fmt: skip
    history = found.history
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert found.summary["runs"][0]["uploads"] < 200


# --- errors ---------------------------------------------------------------------


def test_ps_is_refused_before_any_work(tmp_path: Path) -> None:
    arguments = ["--dataset", "mnist", "--methods", "sgd,ps", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, ["compare", *arguments], terminal_width=200)
    assert done.exit_code == 2
    assert "leave ps out of --methods" in " ".join(done.output.split())
    task = task_of("mnist")
    with pytest.raises(ValueError, match="smoothness L_m"):
        run(task, ("sgd", "ps"), iterations=10**9)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("experiments.network_task", "experiments.networks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ValueError, match="pip install torch"):
        build_task("mnist", 2, "iid", Batch(size=1))


def test_unknown_data_sets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'cifar': choose one of digits, .*mnist"):
        build_task("cifar", 2, "iid", Batch(size=1))
    with pytest.raises(ValueError, match="'cifar': choose one of mnist, shakespeare"):
        load_network_data("cifar")
