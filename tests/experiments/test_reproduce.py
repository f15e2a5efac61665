"""The reproduction: configs, the store of results, equal CSV, and all of it, small."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments import tables, training
from experiments.__main__ import app
from experiments.reproduce import captions, config, curves, grid, summary
from experiments.reproduce.command import module_of
from experiments.reproduce.store import Store
from experiments.reproduce.study import ConfigError, Study
from experiments.run import Run

from .small_study import SMALL, small, texts


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["reproduce", *arguments], terminal_width=200)


# --- configs ---------------------------------------------------------------------


@pytest.mark.parametrize("name", config.names())
def test_every_config_is_valid_and_its_quick_version_needs_no_download(
    name: str,
) -> None:
    full, quick = config.load(name), config.load(name, quick=True)
    assert full.title
    module = module_of(full)
    assert module.planned(quick) <= module.planned(full)
    for dataset in quick.datasets:
        assert dataset == "digits" or dataset.startswith("synthetic-")


def test_studies_come_in_order_and_claims_last() -> None:
    names = config.names()
    assert names[:4] == ["fig2", "fig3", "fig4", "fig5"]
    assert names[-1] == "claims"  # they read what the others wrote


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('method = "sgd"', 'method = "sgdd"', "unknown method 'sgdd'"),
        ("workers = 3", "worker = 3", "unknown worker"),
        ("workers = 3", "", "workers missing"),
        ("workers = 3", 'workers = "3"', "workers cannot be '3'"),
        ("seeds = 2", "seeds = 0", "seeds must be an integer >= 1"),
        ('title = "A small study"', "", "title is missing"),
        ("[parameters]", "[parameters", "is not TOML"),
        ('memory = "gradient"', 'label = "LASG-WK2"', "labels of their own"),
        ('codec = "qsgd:bits=4"', 'codec = "topk"', "is biased"),
        ("seeds = 2", "seeds = 2\nmodule = 'nothing'", "no module 'nothing'"),
        ('method = "sgd"', 'label = "x"', "a run has no method"),
        ("seeds = 2", "seeds = 2\npanels = ['uploads:los']", "panel 'uploads:los'"),
        ("seeds = 2", "seeds = 2\ntarget = '0.1'", "target must be a number"),
        ("seeds = 2", "seeds = 2\nlike = 'small'", "is like itself"),
        ("[datasets.digits]", "[datasets.digit]", "unknown data set 'digit'"),
        ("workers = 3", "workers = 0", "workers must be > 0"),
        ("learning_rate = 0.3", "learning_rate = -1", "learning_rate must be > 0"),
        ("batch_size = 8", "", "give batch_size or batch_fraction"),
        ("batch_size = 8", "batch_size = 8\nbatch_fraction = 0.1", "not both"),
        ("batch_size = 8", "batch_size = 8\nbatch_growth = 0.5", "growth"),
        ('method = "sgd"', 'method = "sgd"\nplots = "all"', "plots must be a list"),
        ('method = "sgd"', 'method = "sgd"\nbase = "LAG"', "is no run's label"),
    ],
)
def test_a_bad_config_is_refused_before_anything_runs(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    assert old in SMALL
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        module_of(small(tmp_path, SMALL.replace(old, new, 1)))


def test_an_unknown_figure_is_a_clear_error(tmp_path: Path) -> None:
    for others in ((), ("all", "--quick")):
        done = invoke("fig99", *others, "--out", str(tmp_path))
        assert done.exit_code == 2
        assert "unknown figure or table 'fig99': choose from fig2, fig3" in done.output


def test_c_in_units_of_the_step(tmp_path: Path) -> None:
    text = SMALL.replace("iterations = 30", "iterations = 30\nc = 4")
    study = small(tmp_path, text)
    assert study.run(study.places[0], study.runs[1], 0).rule().c == 4.0


def test_sgd_takes_no_local_steps_whatever_the_study_says(tmp_path: Path) -> None:
    with_steps = SMALL.replace("iterations = 30", "iterations = 30\nlocal_steps = 5")
    plain, other = small(tmp_path), small(tmp_path, with_steps)

    def history(study: Study, number: int) -> list[dict[str, Any]]:
        run = study.run(study.places[0], study.runs[number], 0)
        return training.train(run, training.task_of(run)).history

    assert history(plain, 0) == history(other, 0)
    last = history(other, 1)[-1]
    assert (last["iteration"], last["round"]) == (30, 6)


def test_the_summary_says_what_is_saved_and_what_misses_the_target() -> None:
    def row(run: str, seed: int, uploads: int | None) -> dict[str, Any]:
        return {"dataset": "d", "partition": "iid", "run": run, "seed": seed,
                "target_loss": 0.5, "uploads_to_target": uploads,
                "uplink_bytes_to_target": uploads, "iterations_to_target": uploads,
                "gradient_evaluations": 7, "final_loss": 0.25,
                "final_accuracy": 0.875}  # fmt: skip

    rows = [row("SGD", 0, 100), row("SGD", 1, 120), row("WK2", 0, 10)]
    rows += [row("WK2", 1, 10), row("PS", 0, 50), row("PS", 1, None)]
    text = summary.markdown(rows)
    assert "| SGD | 110 ± 14 | 1x ± 0 |" in text
    assert "| WK2 | 10 ± 0 | 11x ± 1.4 |" in text
    assert "| PS | 50 (1 of 2) |  |" in text
    assert "| 0.2500 ± 0 | 87.5 ± 0.0 % |" in text
    beside = summary.markdown(rows, {"PS": "WK2", "WK2": "WK2"})
    assert "| WK2 | 10 ± 0 | 1x ± 0 |" in beside


# --- learning rates, peers ---------------------------------------------------------


def test_the_grid_takes_the_rate_with_the_smallest_cost(tmp_path: Path) -> None:
    text = SMALL.replace(
        'method = "sgd"', 'method = "sgd"\nlearning_rates = [0.5, 0.01]'
    )
    study = small(tmp_path, text)
    kept = Store(tmp_path / "cache", planned=grid.planned(study))
    written = curves.produce(study, kept, tmp_path / "out")
    assert kept.done == kept.planned
    assert tmp_path / "out" / "learning_rates.csv" in written
    rows = tables.read(tmp_path / "out" / "learning_rates.csv")
    assert [(r["learning_rate"], r["chosen"]) for r in rows] == [
        ("0.01", "False"),
        ("0.5", "True"),
    ]
    runs = tables.read(tmp_path / "out" / "runs.csv")
    assert {r["learning_rate"] for r in runs if r["run"] == "SGD"} == {"0.5"}


def test_the_cost_in_bytes_ranks_those_that_miss_the_target_by_their_loss() -> None:
    def result(*losses: float) -> dict[str, Any]:
        names = ("round", "uploads", "uplink_bytes", "loss")
        rows = [dict(zip(names, (k, k, 8 * k, x), strict=True))
                for k, x in enumerate(losses)]  # fmt: skip
        return {"history": rows, "totals": {"final_loss": losses[-1]}}

    cost = grid.uplink_bytes_to(0.5)
    assert cost(result(1.0, 0.4, 0.6)) == 8
    assert cost(result(1.0, 0.8)) < cost(result(1.0, 0.9))
    assert cost(result(1.0, 0.8)) > cost(result(*[1.0] * 1000, 0.5))
    diverged = result(1.0, 2.0)
    diverged["totals"]["final_loss"] = None
    assert cost(diverged) == grid.final_loss(diverged) == np.inf


def test_local_steps_count_as_iterations_on_the_way_to_the_target(
    tmp_path: Path,
) -> None:
    text = SMALL.replace('method = "wk2"', 'method = "local-sgd"\nlocal_steps = 5', 1)
    study, kept = small(tmp_path, text), Store(tmp_path / "cache")
    curves.produce(replace(study, target=2.0), kept, tmp_path / "out")
    rows = tables.read(tmp_path / "out" / "runs.csv")
    row = next(r for r in rows if r["method"] == "local-sgd")
    history = kept.run(study.run(study.places[0], study.runs[1], 0))["history"]
    first = next(r for r in history if r["loss"] <= 2.0)
    assert float(row["iterations_to_target"]) == first["iteration"] > 0
    assert float(row["uploads_to_target"]) == 3 * first["iteration"] / 5


def test_peers_are_ranked_by_bytes_and_those_that_miss_the_target_by_loss() -> None:
    def row(run: str, seed: int, size: str, loss: str) -> dict[str, str]:
        return {"dataset": "d", "partition": "p", "run": run, "learning_rate": "1",
                "seed": str(seed), "uplink_bytes_to_target": size, "final_loss": loss,
                "final_accuracy": "1", "uploads_to_target": size}  # fmt: skip

    runs = [row("base", s, "1000", "1") for s in (0, 1)]
    runs += [row("half", 0, "50", "1"), row("half", 1, "", "2")]
    runs += [row("never", 0, "", "9"), row("never", 1, "", "")]
    runs += [row("best", s, "100", "1") for s in (0, 1)]
    ranked = summary.ranking(runs)
    assert [r["run"] for r in ranked] == ["best", "base", "half", "never"]
    assert ranked[0]["x_fewer_bytes"] == pytest.approx(10)
    assert ranked[0]["x_fewer_bytes_deviation"] == 0
    assert ranked[2]["uplink_bytes"] is None
    assert ranked[2]["reached"] == "1 of 2"


# --- all of it ---------------------------------------------------------------------


@pytest.mark.slow
def test_all_of_it_in_its_quick_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a fresh clone without data files; a second time costs no training."""
    monkeypatch.delenv("LASG_DATA", raising=False)
    done = invoke("all", "--quick", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    names = [n for n in config.names() if all(map(find_spec, config.load(n).needs))]
    assert names
    quick = tmp_path / "quick"
    for name in names:
        files = {p.suffix for p in (quick / name).iterdir()}
        assert ".csv" in files
        assert ".png" in files or name in ("claims", "cnn-laziness")
        csvs = [p for p in (quick / name).iterdir() if p.suffix == ".csv"]
        assert all(tables.read(path) for path in csvs)
    assert "quick version, on digits" in done.output
    last = [x for x in done.output.splitlines() if x.startswith("[")][-1]
    number, _, planned = last[1:].partition("]")[0].partition("/")
    assert int(number) <= int(planned)
    before = {n: texts(quick / n) for n in names}

    def never(*_: object) -> None:
        raise AssertionError("a run was repeated")

    monkeypatch.setattr(training, "train", never)
    assert invoke("all", "--quick", "--out", str(tmp_path)).exit_code == 0
    assert {n: texts(quick / n) for n in names} == before


def test_planned_is_what_is_asked_for(tmp_path: Path) -> None:
    study = config.load("table1", quick=True)
    module = module_of(study)
    kept = Store(tmp_path / "cache", planned=module.planned(study))
    module.produce(study, kept, tmp_path / "table1")
    assert kept.done == kept.planned > 0


def test_the_band_is_the_range_of_the_seeds(tmp_path: Path) -> None:
    study, kept = small(tmp_path), Store(tmp_path / "cache")
    curves.produce(study, kept, tmp_path / "out")
    place, run = study.places[0], study.runs[1]
    losses = np.array(
        [
            [row["loss"] for row in kept.run(study.run(place, run, s))["history"]]
            for s in (0, 1)
        ]
    )
    rows = tables.read(tmp_path / "out" / "curves.csv")
    rows = [r for r in rows if r["run"] == run.label]
    for name, expected in (
        ("loss", losses.mean(axis=0)),
        ("loss_low", losses.min(axis=0)),
        ("loss_high", losses.max(axis=0)),
    ):
        assert [float(r[name]) for r in rows] == pytest.approx(list(expected), rel=1e-6)
    assert (losses[0, 1:] != losses[1, 1:]).all()


def test_a_runs_name_says_what_is_not_the_default() -> None:
    plain = Run("digits", "iid", "wk2", 10, 100, 0.1, 0)
    assert str(plain) == "digits iid wk2 η=0.1 seed 0"
    changed = replace(plain, c=2.5, local_steps=4)
    assert str(changed) == "digits iid wk2 η=0.1 c=2.5 local-steps=4 seed 0"


def test_help_lists_what_can_be_made() -> None:
    done = CliRunner().invoke(app, ["reproduce", "--help"], terminal_width=200)
    assert "fig2, fig3" in done.output
    assert "theorems" in done.output


def test_a_caption_has_what_all_shown_runs_share_and_nothing_empty(
    tmp_path: Path,
) -> None:
    study = small(tmp_path)
    place, (sgd, wk2, _) = study.places[0], study.runs
    both = captions.parameters(study, place, [sgd, wk2])
    assert both == "η = 0.3, D = 100, d_max = 10, batch 8, 30 iterations"
    assert "D =" not in captions.parameters(study, place, [sgd])
    other = replace(wk2, parameters={**wk2.parameters, "learning_rate": 0.1,
                                     "max_delay": 7, "batch_size": 4,
                                     "iterations": 9})  # fmt: skip
    assert captions.parameters(study, place, [wk2, other]) == ""
    assert captions.of(replace(study, caption="A."), "", "b") == "A. b."
    assert captions.of(replace(study, caption="A."), "") == "A."
