"""The comparison command, and what the methods must save on real data."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from experiments.__main__ import DEFAULTS, app
from experiments.app_task import methods
from experiments.compare import Comparison, compare
from experiments.local_steps_study import STEPS, run_seed
from experiments.methods import Hyperparameters
from experiments.output import make_folder
from experiments.tasks import Batch, build_task

from .real_data import task_or_skip

SPARSE = ("--methods", "sgd,sparse-local-sgd")
ALL = "sgd,lag,wk1,wk2,ps,pse"
RUN_FIELDS = {
    *("method", "codec", "memory", "local_steps", "uploads", "downloads"),
    *("uplink_bytes", "downlink_bytes", "gradient_evaluations", "final_loss"),
    *("final_accuracy", "rounds_to_target", "uploads_to_target"),
    *("uplink_bytes_to_target", "seconds"),
}


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["compare", *arguments], terminal_width=120)


def summary_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return found


def test_the_command_writes_table_csv_json_and_plots(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = invoke("--rounds", "60", "--codec", "dense", "--codec", "topk:k=20",
                  "--methods", "sgd,wk2", "--out", str(out))  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "LASG-WK2" in done.output
    names = {path.name for path in out.iterdir()}
    plots = {"loss-uploads.png", "loss-uplink-bytes.png", "loss-rounds.png"}
    assert names >= {"history.csv", "summary.json", *plots}
    summary = summary_of(out)
    assert [(r["method"], r["codec"]) for r in summary["runs"]] == [
        *(("sgd", "dense"), ("wk2", "dense")),
        *(("sgd", "topk:k=20"), ("wk2", "topk:k=20")),
    ]
    for run in summary["runs"]:
        assert set(run) == RUN_FIELDS
    sgd = summary["runs"][0]
    assert sgd["uploads"] == sgd["downloads"] == 600
    assert sgd["uplink_bytes"] == 600 * (12 + 4 * 650)
    assert sgd["downlink_bytes"] == 600 * 4 * 650
    assert summary["target_loss"] == pytest.approx(1.02 * sgd["final_loss"])
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 7
    assert rows[0]["round"] == "0"
    assert rows[0]["uploads"] == "0"


def test_the_same_seed_gives_the_same_history(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        options = ("--rounds", "30", "--methods", "wk2,pse", "--target", "2.0")
        assert invoke(*options, "--out", str(tmp_path / name)).exit_code == 0
        texts.append((tmp_path / name / "history.csv").read_text())
    assert texts[0] == texts[1]


def test_local_sgd_takes_local_steps(tmp_path: Path) -> None:
    options = ("--rounds", "20", "--methods", "sgd,local-sgd,wk2", "--local-steps", "5")
    assert invoke(*options, "--out", str(tmp_path)).exit_code == 0
    sgd, local, lazy = summary_of(tmp_path)["runs"]
    assert (sgd["local_steps"], local["local_steps"], lazy["local_steps"]) == (1, 5, 5)
    assert local["gradient_evaluations"] == 5 * sgd["gradient_evaluations"]
    assert local["final_loss"] < sgd["final_loss"]
    assert lazy["uploads"] < local["uploads"]


def test_fedprox_stays_nearer_to_the_model_than_local_sgd(tmp_path: Path) -> None:
    options = ("--rounds", "20", "--methods", "local-sgd,fedprox", "--local-steps", "5")
    assert invoke(*options, "--out", str(tmp_path)).exit_code == 0
    local, fedprox = summary_of(tmp_path)["runs"]
    assert fedprox["local_steps"] == 5
    assert fedprox["gradient_evaluations"] == local["gradient_evaluations"]
    assert local["final_loss"] < fedprox["final_loss"] < 1.05 * local["final_loss"]


def test_sparse_local_sgd_has_error_memory_and_sends_less(tmp_path: Path) -> None:
    options = ("--rounds", "40", "--methods", "sgd,local-sgd,sparse-local-sgd")
    done = invoke(*options, "--local-steps", "5", "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    _, local, sparse = summary_of(tmp_path)["runs"]
    assert (sparse["memory"], sparse["codec"]) == ("error", "topk:fraction=0.01")
    assert sparse["uplink_bytes"] < local["uplink_bytes"] / 20
    assert sparse["final_loss"] < 2.0


def test_sparse_local_sgd_takes_k_by_device_and_growing_batches(tmp_path: Path) -> None:
    options = ("--rounds", "20", "--local-steps", "5", "--methods",
               "sgd,sparse-local-sgd", "--top-k", "0.01, 13", "--batch-growth", "1.01",
               "--initial-batch", "4")  # fmt: skip
    done = invoke(*options, "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "and 1 more" in " ".join(done.output.split())
    summary = summary_of(tmp_path)
    parameters = summary["parameters"]
    assert parameters["top_k"] == [0.01, 13]
    assert (parameters["batch_growth"], parameters["initial_batch"]) == (1.01, 4)
    _, sparse = summary["runs"]
    assert sparse["codec"] == "topk:fraction=0.01;topk:k=13"
    assert (sparse["memory"], sparse["local_steps"]) == ("error", 5)
    # ten workers; 6 or 13 values of 4 bytes, a header, indices of 10 bits at most
    least, most = 200 * (12 + 4 + 6 * 4), 200 * (12 + 8 + 8 + 13 * 6)
    assert least < sparse["uplink_bytes"] < most
    plain = invoke(*options[:6], "--out", str(tmp_path))
    assert plain.exit_code == 0
    (_, other) = summary_of(tmp_path)["runs"]
    assert other["final_loss"] != sparse["final_loss"]


def test_the_flower_app_refuses_methods_with_local_steps() -> None:
    context = SimpleNamespace(run_config={"method": "wk2,sparse-local-sgd"})
    with pytest.raises(ValueError, match="the clients of this app do not"):
        methods(cast(Any, context))
    context.run_config["method"] = "wk2,sgd"
    assert methods(cast(Any, context)) == ["wk2", "sgd"]


def test_a_target_that_is_not_reached_is_null(tmp_path: Path) -> None:
    options = ("--rounds", "10", "--methods", "wk2", "--target", "0.001")
    assert invoke(*options, "--out", str(tmp_path)).exit_code == 0
    (run,) = summary_of(tmp_path)["runs"]
    assert run["uploads_to_target"] is None
    assert run["rounds_to_target"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dataset", "imagenet"), "choose one of digits"),
        (("--methods", "sgd,wk9"), "unknown method 'wk9'"),
        (("--codec", "gzip"), "unknown codec 'gzip'"),
        (("--memory", "short"), "choose one of innovation, gradient, error"),
        (("--codec", "topk", "--memory", "gradient"), "is biased"),
        (("--methods", "wk2", "--memory", "error"), "cannot skip"),
        (("--partition", "striped"), "(--partition on"),
        (("--batch-size", "4", "--batch-fraction", "0.1"), "not both"),
        (("--batch-fraction", "2"), "must lie in (0, 1]"),
        (("--c", "-1", "--methods", "wk2"), "c must be finite and >= 0"),
        (("--max-delay", "5", "--methods", "wk1"), "WK1 needs max_delay >= d_max"),
        (("--learning-rate", "0"), "step size must be finite and > 0"),
        (("--workers", "100000"), "100000"),
        (("--top-k", "0.1"), "--top-k is for sparse-local-sgd alone"),
        (("--batch-growth", "2"), "--batch-growth is for sparse-local-sgd alone"),
        ((*SPARSE, "--top-k", "0"), "'0' is neither a share in (0, 1) nor an integer"),
        ((*SPARSE, "--top-k", "0.1,x"), "'x' is neither"),
        ((*SPARSE, "--top-k", "1.5"), "'1.5' is neither"),
        ((*SPARSE, "--top-k", "651"), "choose k in [1, 650]"),
        ((*SPARSE, "--batch-growth", "0.9"), "must be finite and >= 1, got 0.9"),
        ((*SPARSE, "--batch-growth", "nan"), "must be finite and >= 1, got nan"),
        ((*SPARSE, "--initial-batch", "0"), "must be an integer >= 1, got 0"),
        ((*SPARSE, "--local-steps", "0"), "0 is not in the range x>=1"),
    ],
)
def test_bad_arguments_end_with_a_clear_error(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = invoke("--rounds", "5", *arguments, "--out", str(tmp_path / "out"))
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_any_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("experiments.__main__.compare")
    file = tmp_path / "file"
    file.touch()
    for out in (file, file / "below"):
        done = invoke("--rounds", "5", "--out", str(out))
        assert done.exit_code == 2
        assert f"error: --out {out}" in done.output.replace("\n", "")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ValueError, match="not writable"):
        make_folder(tmp_path)


def test_the_proximal_term_is_a_parameter_of_fedprox_alone(tmp_path: Path) -> None:
    for names, proximal in (("sgd", None), ("sgd,fedprox", 0.1)):
        done = invoke("--rounds", "2", "--methods", names, "--out", str(tmp_path))
        assert done.exit_code == 0, done.output
        assert summary_of(tmp_path)["parameters"]["proximal"] == proximal


def uploads_to_target(
    dataset: str, partition: str, factor: float, methods: str = ALL
) -> dict[str, int]:
    """Run the comparison with its defaults; uploads to `factor` x SGD's final loss."""
    defaults = DEFAULTS[dataset]
    task = task_or_skip(dataset, defaults.workers, partition, defaults.batch)
    config = Comparison(
        dataset,
        partition,
        tuple(methods.split(",")),
        ("dense",),
        "innovation",
        defaults.workers,
        defaults.rounds,
        10,
        0,
        Batch(),
        Hyperparameters(0.1),
    )
    history, summary = compare(config, task)
    target = factor * summary["runs"][0]["final_loss"]
    return {
        method: next(
            row["uploads"]
            for row in history
            if row["method"] == method and row["loss"] <= target
        )
        for method in config.methods
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


def test_the_codec_study_ranks_by_bytes(tmp_path: Path) -> None:
    options = ("--rounds", "60", "--codec", "topk:fraction=0.05")
    done = CliRunner().invoke(app, ["codecs", *options, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "codecs.png").stat().st_size > 10_000
    runs = summary_of(tmp_path)["runs"]
    kinds = {(r["method"], r["codec"], r["memory"]) for r in runs}
    assert ("sgd", "topk:fraction=0.05", "error") in kinds
    assert ("wk2", "topk:fraction=0.05", "error") not in kinds
    assert ("wk2", "topk:fraction=0.05", "gradient") not in kinds
    assert runs[0]["x_fewer_bytes"] == 1.0
    best = max(runs, key=lambda r: r["x_fewer_bytes"] or 0)
    assert best["codec"] == "topk:fraction=0.05"


def test_a_run_stops_where_it_is_told_and_steps_may_decrease() -> None:
    task = build_task("digits", 4, "iid", Batch(size=16))

    def run(stop_at: float | None, k0: float | None) -> list[dict[str, Any]]:
        config = Comparison(
            "digits", "iid", ("sgd",), ("dense",), "innovation", 4, 40, 5, 0,
            Batch(), Hyperparameters(0.1, k0=k0), None, stop_at,
        )  # fmt: skip
        return compare(config, task)[0]

    whole = run(None, None)
    stopped = run(whole[4]["loss"], None)
    assert stopped == whole[:5]
    slower = run(None, 10.0)
    assert whole[0]["loss"] == slower[0]["loss"]
    assert whole[-1]["loss"] < slower[-1]["loss"] < whole[1]["loss"]


def test_the_parts_of_the_study_of_local_steps_multiply() -> None:
    task_or_skip("mnist35", 10, "by-label", Batch(size=1))
    wanted = ("SGD", "local steps, laziness", "all three", "all three, 10 % Top-k")
    steps = [step for step in STEPS if step[0] in wanted]
    found = {row["label"]: row for row in run_seed(0, steps_of=steps)}
    sgd, everything = found["SGD"], found["all three"]
    assert everything["uplink_bytes_to_target"] * 500 <= sgd["uplink_bytes_to_target"]
    assert found["local steps, laziness"]["uploads_to_target"] <= 200
    fedavg_bytes = 100 * 10 * (12 + 4 * 785)
    assert everything["uplink_bytes_to_target"] * 90 <= fedavg_bytes
    assert everything["uplink_bytes_to_target"] < everything["fixed_width_bytes"]
    best = found["all three, 10 % Top-k"]["uplink_bytes_to_target"]
    assert best * 1000 <= sgd["uplink_bytes_to_target"]
