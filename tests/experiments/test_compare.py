"""The comparison command, and what the methods must save on real data."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.__main__ import app
from experiments.app_task import methods
from experiments.output import make_folder
from experiments.run import Run
from experiments.training import task_of, train

SPARSE = ("--methods", "sgd,sparse-local-sgd")
RUN_FIELDS = {
    *("method", "codec", "memory", "local_steps", "uploads", "downloads"),
    *("uplink_bytes", "downlink_bytes", "gradient_evaluations", "final_loss"),
    *("final_accuracy", "rounds_to_target", "uploads_to_target"),
    *("uplink_bytes_to_target", "seconds", "seed", "downlink", "total_bytes"),
    *("total_bytes_to_target",),
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
    plots = {"loss-uploads.png", "loss-uplink-bytes.png", "loss-total-bytes.png",
             "loss-rounds.png", "accuracy-rounds.png", "comparison.png"}  # fmt: skip
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


def test_downlinks_are_compared_by_the_bytes_of_both_directions(tmp_path: Path) -> None:
    options = ["--rounds", "40", "--methods", "sgd", "--target", "2.2"]
    ways = ["--downlink", "dense", "--downlink", "topk:k=20"]
    done = invoke(*options, *ways, "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    dense, coded = summary_of(tmp_path)["runs"]
    assert (dense["downlink"], coded["downlink"]) == ("dense", "topk:k=20")
    for run in (dense, coded):
        assert run["total_bytes"] == run["uplink_bytes"] + run["downlink_bytes"]
    assert coded["uplink_bytes"] == dense["uplink_bytes"]
    assert coded["downlink_bytes"] < dense["downlink_bytes"] / 5
    assert coded["total_bytes_to_target"] < dense["total_bytes_to_target"]


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
        (("--learning-rate", "0"), "learning_rate must be > 0, got 0.0"),
        (("--learning-rate", "inf"), "a step size must be finite and > 0"),
        (("--schedule", "linear"), "unknown schedule 'linear': choose constant"),
        (("--schedule", "decay:2"), "schedule 'decay:2': factor must lie in (0, 1]"),
        (("--schedule", "decay:x"), "schedule 'decay:x': could not convert"),
        (("--seeds", "0"), "0 is not in the range x>=1"),
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
    monkeypatch.delattr("experiments.commands.compare")
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
    base = Run(method="sgd", workers=4, batch_size=16, iterations=40, evaluate_every=5)

    def losses(**changes: Any) -> list[float]:
        run = replace(base, **changes)
        return [row["loss"] for row in train(run, task_of(run)).history]

    whole = losses()
    assert losses(stop_at=whole[4]) == whole[:5]
    for schedule in ("inverse:10", "cosine", "decay:0.9"):
        slower = losses(schedule=schedule)
        assert whole[0] == slower[0]
        assert whole[-1] < slower[-1] < whole[1]
    assert losses(schedule="decay:1") == whole


@pytest.mark.parametrize("method", ["sgd", "local-sgd", "wk2"])
def test_the_schedule_is_that_of_the_server_or_of_the_clients(method: str) -> None:
    """With γ = 1/2 the step of round k is 2^-k of the constant one, to rounding."""
    base = Run(method=method, workers=2, iterations=1, evaluate_every=1, c=0.0)
    runs = {k: replace(base, iterations=k, schedule="decay:0.5") for k in (1, 3)}
    losses = {k: train(run, task_of(run)).history for k, run in runs.items()}
    theta = np.zeros(650, np.float32)
    oracles = task_of(base).oracles
    for k in range(3):
        mean = np.mean([o.gradient(theta, np.arange(o.num_examples)) for o in oracles],
                       axis=0)  # fmt: skip
        theta = (theta - 0.1 * 0.5**k * mean).astype(np.float32)
        if k + 1 in losses:
            found = losses[k + 1][-1]["loss"]
            assert found == pytest.approx(task_of(base).loss(theta), rel=1e-6)


def test_every_seed_has_its_entry_and_the_table_their_spread(tmp_path: Path) -> None:
    options = ("--rounds", "30", "--methods", "sgd,wk2", "--seed", "3")
    done = invoke(*options, "--seeds", "2", "--out", str(tmp_path / "two"))
    assert done.exit_code == 0, done.output
    summary = summary_of(tmp_path / "two")
    assert (summary["seed"], summary["seeds"]) == (3, 2)
    assert [(r["method"], r["seed"]) for r in summary["runs"]] == [
        *(("sgd", 3), ("wk2", 3), ("sgd", 4), ("wk2", 4))
    ]
    losses = [run["final_loss"] for run in summary["runs"]]
    assert summary["target_loss"] == pytest.approx(1.02 * (losses[0] + losses[2]) / 2)
    assert "mean of 2 seeds" in " ".join(done.output.split())
    assert f"± {abs(losses[0] - losses[2]) / 2**0.5:.4f}" in done.output
    for seed, expected in ((3, losses[:2]), (4, losses[2:])):
        again = (*options[:-1], str(seed), "--out", str(tmp_path / "one"))
        assert invoke(*again).exit_code == 0
        assert [r["final_loss"] for r in summary_of(tmp_path / "one")["runs"]] == (
            expected
        )


def test_ctrl_c_keeps_the_finished_methods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Run] = []

    def interrupted(run: Run, *rest: Any) -> Any:
        ran.append(run)
        if len(ran) == 3:
            raise KeyboardInterrupt
        return train(run, *rest)

    monkeypatch.setattr("experiments.compare.train", interrupted)
    options = ("--rounds", "20", "--methods", "sgd,wk2,pse", "--out", str(tmp_path))
    done = invoke(*options)
    assert done.exit_code == 130
    assert "stopped: 2 of 3 runs were finished" in done.output
    assert [run["method"] for run in summary_of(tmp_path)["runs"]] == ["sgd", "wk2"]
    assert (tmp_path / "comparison.png").exists()
    del ran[1:]  # before any is finished
    ran += ran
    assert invoke(*options[:-1], str(tmp_path / "none")).exit_code != 0
    assert not (tmp_path / "none" / "summary.json").exists()


def test_a_method_that_diverges_says_so(tmp_path: Path) -> None:
    options = ("--rounds", "200", "--methods", "sgd", "--learning-rate", "1e30")
    with np.errstate(all="ignore"):
        done = invoke(*options, "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "diverged" in done.output
    assert "no target loss" in done.output
