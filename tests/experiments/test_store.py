"""The store of results: each run once, under a key of all that determines it."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from experiments.data import DataError
from experiments.reproduce import curves, grid, store
from experiments.reproduce.store import Store, key_of
from experiments.run import Run

from .small_study import SMALL, counted, small, texts


def test_an_interrupted_run_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small(tmp_path)
    curves.produce(study, Store(tmp_path / "whole"), tmp_path / "a")
    with monkeypatch.context() as patch:
        first = counted(patch, limit=4)
        with pytest.raises(KeyboardInterrupt):
            curves.produce(study, Store(tmp_path / "cache"), tmp_path / "b")
    assert not (tmp_path / "b" / "runs.csv").exists()
    second = counted(monkeypatch)
    curves.produce(study, Store(tmp_path / "cache"), tmp_path / "b")
    assert len(first) == 4
    assert len(second) == 2
    assert not set(first) & set(second)
    assert texts(tmp_path / "a") == texts(tmp_path / "b") != {}


def test_a_changed_plot_trains_nothing_and_a_changed_parameter_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, out = small(tmp_path), tmp_path / "out"
    curves.produce(study, Store(tmp_path / "cache"), out)
    before = (out / "digits-iid.png").read_bytes()
    ran = counted(monkeypatch)
    other = replace(study, title="Another", panels=("bits:accuracy",))
    curves.produce(other, Store(tmp_path / "cache"), out)
    assert ran == []
    assert (out / "digits-iid.png").read_bytes() != before
    more = replace(study, parameters={**study.parameters, "iterations": 20})
    curves.produce(more, Store(tmp_path / "cache"), out)
    assert len(ran) == 6


def test_no_resume_computes_everything_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small(tmp_path)
    curves.produce(study, Store(tmp_path / "cache"), tmp_path / "a")
    ran = counted(monkeypatch)
    again = Store(tmp_path / "cache", resume=False)
    curves.produce(study, again, tmp_path / "b")
    again.run(study.run(study.places[0], study.runs[0], 0))  # asked for twice
    assert len(ran) == 6
    assert texts(tmp_path / "a") == texts(tmp_path / "b")


@pytest.mark.parametrize("damage", ["", "{", '{"spec": 1}', "[]", "null"])
def test_a_damaged_result_is_computed_anew(damage: str, tmp_path: Path) -> None:
    kept = Store(tmp_path)
    spec = {"kind": "test"}
    assert kept.get(spec, "x", lambda: {"value": 1}) == {"value": 1}
    (path,) = tmp_path.iterdir()
    path.write_text(damage)
    assert kept.get(spec, "x", lambda: {"value": 2}) == {"value": 2}
    assert json.loads(path.read_text())["result"] == {"value": 2}


def test_the_format_and_every_parameter_are_part_of_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run("digits", "iid", "wk2", 3, 30, 0.3, 0, batch_size=8)
    changed: dict[str, Any] = {
        "dataset": "ijcnn1", "partition": "by-label", "method": "pse", "codec": "sign",
        "memory": "gradient", "iterations": 31, "learning_rate": 0.2, "seed": 1,
        "max_delay": 50, "d_max": 5, "c": 2.0, "workers": 4, "batch_size": 9,
        "batch_fraction": 0.1, "local_steps": 2, "evaluate_every": 5, "proximal": 0.2,
        "top_k": (0.02,), "batch_growth": 1.1, "initial_batch": 3,
        "schedule": "cosine", "stop_at": 0.5, "downlink": "sign",
    }  # fmt: skip
    assert set(changed) == {field.name for field in fields(Run)}
    keys = {key_of(run.spec)}
    for name, value in changed.items():
        size = None if name == "batch_fraction" else run.batch_size
        keys.add(key_of(replace(run, **{"batch_size": size, name: value}).spec))
    assert len(keys) == len(changed) + 1
    monkeypatch.setattr(store, "FORMAT", store.FORMAT + 1)
    assert key_of(run.spec) not in keys


def test_results_stay_where_they_are() -> None:
    """What this key hides: a changed default, or a new field without one."""
    run = Run("digits", "iid", "wk2", 10, 100, 0.1, 0)
    assert key_of(run.spec) == "7c9a65796499e4e889ac88d747e873c2"
    always = ("dataset", "partition", "method", "workers", "iterations",
              "learning_rate", "seed")  # fmt: skip
    assert set(run.spec) == {"kind", *always}
    defaults = {f.name: f.default for f in fields(run) if f.name not in always}
    assert defaults == {
        "codec": "dense", "memory": "innovation", "evaluate_every": 10,
        "local_steps": 1, "max_delay": 100, "d_max": 10, "c": None, "batch_size": None,
        "batch_fraction": None, "proximal": 0.1, "top_k": (0.01,), "batch_growth": 1.0,
        "initial_batch": None, "schedule": "constant", "stop_at": None,
        "downlink": "dense",
    }  # fmt: skip


def test_progress_says_how_much_time_is_left(tmp_path: Path) -> None:
    lines: list[str] = []
    kept = Store(tmp_path, planned=3, say=lines.append)
    for i in range(3):
        kept.get({"i": i}, f"job {i}", dict)
    assert lines[0].startswith("[1/3] job 0: 0.0 s, about")
    assert lines[2].endswith("about 0 s left")


def test_runs_ahead_give_what_runs_one_by_one_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, lines = small(tmp_path), list[str]()
    for resume in (True, False):
        kept = Store(tmp_path / "cache", resume=resume, planned=6, jobs=2,
                     say=lines.append)  # fmt: skip
        with monkeypatch.context() as patch:
            here = counted(patch)
            curves.produce(study, kept, tmp_path / "ahead")
        assert here == []  # all in other processes
        assert kept.done == kept.computed == 6
    curves.produce(study, Store(tmp_path / "one-by-one"), tmp_path / "a")
    assert texts(tmp_path / "ahead") == texts(tmp_path / "a") != {}
    assert len(lines) == 12
    assert sorted(line.partition("]")[0] for line in lines[6:]) == [
        f"[{n}/6" for n in range(1, 7)
    ]


def test_ahead_searches_grids_and_then_runs_what_they_chose(tmp_path: Path) -> None:
    text = SMALL.replace(
        'method = "sgd"', 'method = "sgd"\nlearning_rates = [0.1, 0.3]'
    )
    study = small(tmp_path, text)
    names = [str(run) for run in grid.known(study)]
    assert len(names) == len(set(names)) == 2 + 2 * 2
    kept = Store(tmp_path / "cache", jobs=2, planned=grid.planned(study))
    curves.produce(study, kept, tmp_path / "a")
    assert kept.computed == 2 + 1 + 2 * 2  # seed 0 of the best rate is in the grid
    assert kept.done == kept.planned == 8


def test_a_failure_ahead_keeps_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASG_DATA", str(tmp_path / "empty"))
    runs = [Run(iterations=2, batch_size=8), Run(batch_size=8, dataset="covtype")]
    kept = Store(tmp_path, jobs=2)
    with pytest.raises(DataError, match="covtype"):
        kept.ahead(runs)
    assert kept.has(runs[0])


def test_nothing_starts_ahead_after_the_end(tmp_path: Path) -> None:
    runs = [Run(iterations=2, batch_size=8, seed=seed) for seed in range(3)]
    kept = Store(tmp_path, jobs=2)
    kept.ahead(runs, end=0.0)
    assert not any(kept.has(run) for run in runs)
