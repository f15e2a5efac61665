"""The reproduction's network studies: their data, their network, what they need."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.__main__ import app
from experiments.batches import Batch
from experiments.data import NetworkData, load_network_data, made_up
from experiments.reproduce import command, config, workers
from experiments.reproduce.store import Store
from experiments.reproduce.study import ConfigError

MADE_UP = tuple(n for n in made_up.LOADERS if n.startswith("synthetic-"))


@pytest.mark.parametrize("name", MADE_UP)
def test_made_up_data_is_the_same_every_time(name: str) -> None:
    first, again = load_network_data(name), load_network_data(name)
    np.testing.assert_array_equal(first.train_x, again.train_x)
    assert len(first.train_x) == len(first.train_y) == len(first.groups) == 240
    assert len(first.test_x) == len(first.test_y) == 60
    assert 0 <= first.train_y.min() < first.train_y.max() < first.classes


def test_a_part_holds_the_first_classes_and_all_of_them() -> None:
    y = np.array([2, 0, 1, 0, 2, 1])
    x = np.arange(6)[:, None]
    part = made_up.part_of(NetworkData("all", x, y, x, y, 3, y), "part", 2)
    assert part.train_x[:, 0].tolist() == part.test_x[:, 0].tolist() == [1, 2, 3, 5]
    assert part.groups.tolist() == part.train_y.tolist() == [0, 1, 0, 1]
    assert (part.name, part.classes) == ("part", 2)


def test_the_full_archive_is_cut_to_what_the_small_one_has() -> None:
    y = np.repeat([1, 0, 2], 120)
    x = np.arange(360, dtype=np.int64)[:, None, None, None] % 250
    x = np.broadcast_to(x, (360, 3, 64, 64)).astype(np.uint8)
    x[0, 0, :2, :2] = [[1, 2], [3, 2]]
    small = made_up.small_images(NetworkData("all", x, y, x[:4], y[:4], 3, y))
    assert small.train_x.shape == (300, 3, 32, 32)
    assert np.bincount(small.train_y).tolist() == [100, 100, 100]
    assert small.train_x[0, 0, 0, 0] == 2
    assert small.train_x[100:, 0, 0, 0].tolist() == x[120:220, 0, 0, 0].tolist() + (
        x[240:340, 0, 0, 0].tolist()
    )
    assert small.test_x.shape == (4, 3, 32, 32)
    again = made_up.small_images(small)
    np.testing.assert_array_equal(again.train_x, small.train_x)


def test_a_study_like_another_shares_its_results() -> None:
    first, second = config.load("fig8"), config.load("fig9")
    assert first.title != second.title
    assert first.panels != second.panels
    place = first.places[0]
    for run, other in zip(first.runs, second.runs, strict=True):
        assert first.run(place, run, 0) == second.run(place, other, 0)


def test_ten_workers_of_figure_6_are_those_of_figure_8() -> None:
    six, eight = config.load("fig6"), config.load("fig8")
    place = eight.places[0]
    runs = [eight.run(place, run, 0) for run in eight.runs]
    sizes = dict(workers.sizes(six))
    assert {run.parameters["method"] for run in six.runs} == {
        "sgd", "local-sgd", "wk2", "pse"}  # fmt: skip
    for run in six.runs:
        assert workers.run_of(six, place, run, 10, sizes[10], 0) in runs


def test_the_study_of_the_cnn_has_the_papers_parameters_but_for_one() -> None:
    study = config.load("cnn")
    place = study.places[0]
    runs = {entry.label: study.run(place, entry, 0) for entry in study.runs}
    run = runs["wk2-c3"]
    assert (run.workers, run.max_delay, run.d_max) == (10, 50, 10)
    assert run.c == 3.0
    assert run.stop_at == study.target == 0.1
    assert runs["local4-wk2-c1"].c == 1.0
    assert len(set(runs.values())) == len(runs)
    for entry in study.runs:
        if entry.base is not None:  # the SGD of its own steps
            base, own = runs[entry.base], runs[entry.label]
            assert base.method == "sgd"
            assert base == replace(own, method="sgd", c=None)


# --- numbers of workers --------------------------------------------------------------


def history(*rows: tuple[int, float, float]) -> dict[str, Any]:
    names = ("uploads", "loss", "accuracy")
    full = [dict(zip(names, row, strict=True)) for row in rows]
    return {"history": [{**r, "iteration": 9, "uplink_bytes": 8} for r in full]}


def test_a_loss_falls_to_its_target_and_an_accuracy_rises() -> None:
    result = history((0, 2.0, 0.1), (5, 0.5, 0.8), (9, 0.6, 0.7))
    assert workers.first_at(result, "loss", 0.5)["uploads_to_target"] == 5
    assert workers.first_at(result, "accuracy", 0.8)["uploads_to_target"] == 5
    assert workers.first_at(result, "loss", 0.4)["uploads_to_target"] is None
    assert workers.first_at(result, "accuracy", 0.9)["uploads_to_target"] is None


def test_the_summary_of_numbers_of_workers() -> None:
    study = config.load("fig6", quick=True)  # M = 2, 4
    labels = [run.label for run in study.runs]
    counts = [((100, 100), (200, 300)), ((50, 25), (None, 90)), ((None, None),) * 2]
    rows = [
        {"run": label, "workers": m, "uploads_to_target": n,
         "dataset": "synthetic-mnist", "partition": "iid"}
        for label, of_run in zip(labels, counts, strict=False)
        for m, seeds in zip((2, 4), of_run, strict=True)
        for n in seeds
    ]  # fmt: skip
    text = workers.summary(study, study.places[0], rows)
    assert f"| {labels[0]} | 100 ± 0 (1.00x ± 0.00) | 250 ± 71 (1.00x ± 0.00) |" in text
    assert f"| {labels[1]} | 38 ± 18 (3.00x ± 1.41) | 90, 1 of 2 seeds |" in text
    assert f"| {labels[2]} | not reached | not reached |" in text


def test_each_number_of_workers_has_its_iterations(tmp_path: Path) -> None:
    study = config.load("fig6", quick=True)
    options = {**study.options, "iterations": [40]}
    with pytest.raises(ConfigError, match=r"workers \[2, 4\] and iterations \[40\]"):
        workers.produce(replace(study, options=options), Store(tmp_path), tmp_path)


def test_numbers_of_workers_need_a_target(tmp_path: Path) -> None:
    study = replace(config.load("fig6", quick=True), target=None)
    with pytest.raises(ConfigError, match="target is missing"):
        workers.produce(study, Store(tmp_path), tmp_path)


# --- without PyTorch -----------------------------------------------------------------


def test_a_study_that_cannot_run_is_left_out_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        command, "find_spec", lambda name: None if name == "torch" else find_spec(name)
    )
    arguments = ["reproduce", "all", "--quick", "--out", str(tmp_path)]
    monkeypatch.setattr(config, "names", lambda: ["table1", "fig8"])
    done = CliRunner().invoke(app, arguments, terminal_width=200)
    assert done.exit_code == 0
    assert "fig8: left out, as torch is not installed: pip install" in done.output
    assert (tmp_path / "quick" / "table1").exists()
    assert not (tmp_path / "quick" / "fig8").exists()
    asked = CliRunner().invoke(app, ["reproduce", "fig8", "--out", str(tmp_path)])
    assert asked.exit_code == 2
    assert "fig8 cannot be made: torch is not installed" in asked.output


# --- the network ---------------------------------------------------------------------


def test_pretraining_repeats_and_the_last_layer_starts_anew() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    from experiments.narrow_resnet import narrow_resnet18
    from experiments.pretraining import pretrain, start_from

    data = load_network_data("synthetic-tiny-imagenet")
    weights = pretrain(data.train_x, data.train_y, 10, epochs=2)
    again = pretrain(data.train_x, data.train_y, 10, epochs=2)
    assert all(torch.equal(value, again[name]) for name, value in weights.items())

    network = narrow_resnet18(7)
    last = [p.clone() for p in list(network.parameters())[-2:]]
    start_from(network, weights)
    kept = list(network.parameters())[-2:]
    assert all(torch.equal(a, b) for a, b in zip(last, kept, strict=True))
    assert torch.equal(network.state_dict()["1.weight"], weights["1.weight"])
    with pytest.raises(ValueError, match="another network's weights"):
        start_from(torch.nn.Linear(2, 2), weights)


def test_what_is_pretrained_starts_from_its_weights() -> None:
    pytest.importorskip("torch", reason="needs the extra torch")
    from experiments.network_task import network_task
    from experiments.pretraining import pretrain

    data = load_network_data("synthetic-tiny-imagenet")
    weights = pretrain(data.train_x, data.train_y, 10, epochs=1)
    parts = [np.arange(240)]
    task = network_task(replace(data, pretrained=weights), parts, Batch(size=4), 0)
    scratch = network_task(data, parts, Batch(size=4), 0)
    assert "pretrained" in task.notes["network"]
    assert task.size == scratch.size
    first = weights["1.weight"].numpy().ravel()
    np.testing.assert_array_equal(task.start()[: first.size], first)
    assert not np.array_equal(scratch.start()[: first.size], first)


def test_at_its_full_width_the_narrow_resnet_is_torchvisions() -> None:
    pytest.importorskip("torch", reason="needs the extra torch")
    models = pytest.importorskip("torchvision.models", reason="needs the extra vision")
    from experiments.narrow_resnet import narrow_resnet18

    def shapes(network: Any) -> list[tuple[int, ...]]:
        return sorted(tuple(p.shape) for p in network.parameters())

    assert shapes(narrow_resnet18(10, 64)) == shapes(models.resnet18(num_classes=10))
    assert sum(p.numel() for p in narrow_resnet18(10).parameters()) == 703_386
