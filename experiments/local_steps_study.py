"""What local steps, laziness, quantization and entropy coding each save on mnist35.

``python -m experiments.local_steps_study --out FOLDER``: MNIST 3 against 5 sorted by
label, M = 10, η = 0.1, D = 100, d_max = 10. The target of a seed is 1.02 x the loss of
FedAvg (local SGD, H = 20) after 100 rounds; what counts is the first evaluated round at
or below it. Writes ``runs.csv``, ``summary.csv`` and a plot.
"""

import csv
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lasg_flwr.wire import HEADER_BYTES

from .batches import Batch
from .compare import TARGET_FACTOR, Comparison, Run, run_method, to_target
from .methods import Hyperparameters
from .tasks import Task, build_task

DATASET, PARTITION, WORKERS = "mnist35", "by-label", 10
BATCH = Batch(fraction=0.01)
FEDAVG_ROUNDS, LOCAL_STEPS = 100, 20
FOUR_BITS = "qsgd:bits=4"
STEPS: tuple[tuple[str, str, str, int], ...] = (
    ("SGD", "sgd", "dense", 1),
    ("local steps", "local-sgd", "dense", LOCAL_STEPS),
    ("laziness", "wk2", "dense", 1),
    ("4 bits", "sgd", FOUR_BITS, 1),
    ("local steps, laziness", "wk2", "dense", LOCAL_STEPS),
    ("local steps, 4 bits", "local-sgd", FOUR_BITS, LOCAL_STEPS),
    ("laziness, 4 bits", "wk2", FOUR_BITS, 1),
    ("all three", "wk2", FOUR_BITS, LOCAL_STEPS),
    ("all three, uniform 4 bits", "wk2", "uniform:bits=4", LOCAL_STEPS),
    ("all three, uniform 3 bits", "wk2", "uniform:bits=3", LOCAL_STEPS),
    ("all three, sign", "wk2", "sign", LOCAL_STEPS),
    ("all three, 10 % Top-k", "wk2", "topk-qsgd:fraction=0.1", LOCAL_STEPS),
    *((f"all three, H = {h}", "wk2", FOUR_BITS, h) for h in (5, 10, 40)),
)
"""Label, method, codec and H of each run."""


def run_seed(
    seed: int,
    data_dir: Path | None = None,
    steps_of: Sequence[tuple[str, str, str, int]] = STEPS,
) -> list[dict[str, Any]]:
    """Return a row for each run of `steps_of` with one seed."""
    task = build_task(DATASET, WORKERS, PARTITION, BATCH, seed=seed, data_dir=data_dir)
    fedavg = _run(task, "local-sgd", "dense", LOCAL_STEPS, seed, None)
    target = TARGET_FACTOR * fedavg.totals["final_loss"]
    rows = []
    for label, method, codec, steps in steps_of:
        found = _run(task, method, codec, steps, seed, target)
        row: dict[str, Any] = {
            "seed": seed,
            "label": label,
            "method": method,
            "codec": codec,
        }
        row |= {"local_steps": steps, "target_loss": target}
        row |= to_target(found.history, target)
        row["gradient_evaluations"] = found.totals["gradient_evaluations"]
        if codec == FOUR_BITS and row["uploads_to_target"]:
            row["fixed_width_bytes"] = row["uploads_to_target"] * _fixed(task.size)
        rows.append(row)
    return rows


def _run(
    task: Task, method: str, codec: str, steps: int, seed: int, target: float | None
) -> Run:
    rounds = FEDAVG_ROUNDS * (1 if target is None else 2 if steps > 1 else 30)
    parameters = Hyperparameters(0.1, local_steps=steps)
    config = Comparison(
        DATASET, PARTITION, (method,), (codec,), "innovation", WORKERS, rounds,
        1 if steps > 1 else 5, seed, BATCH, parameters, target, target,
    )  # fmt: skip
    return run_method(config, task, method, codec, lambda: None)


def _fixed(size: int, bits: int = 4, bucket: int = 512) -> int:
    """Return the bytes of an upload whose levels are not entropy-coded."""
    return HEADER_BYTES + 4 * ceil(size / bucket) + ceil(bits * size / 8)


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the median over seeds of each run's figures, and its factors over SGD."""
    found: list[dict[str, Any]] = []
    for label, method, codec, steps in STEPS:
        own = [row for row in rows if row["label"] == label]
        reached = [row for row in own if row["uploads_to_target"] is not None]
        line: dict[str, Any] = {
            "label": label, "method": method, "codec": codec, "local_steps": steps,
            "seeds": len(own), "reached": len(reached),
        }  # fmt: skip
        for name in ("rounds", "uploads", "uplink_bytes"):
            values = [row[f"{name}_to_target"] for row in reached]
            line[name] = round(median(values)) if values else None
        sgd = found[0] if found else line
        for name in ("uploads", "uplink_bytes"):
            factor = line[name] and round(sgd[name] / line[name], 1)
            line[f"x_fewer_{name}"] = factor
        worst = [r["uplink_bytes_to_target"] for r in reached]
        line["most_uplink_bytes"] = max(worst, default=None)
        found.append(line)
    return found


def plot(summary: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw a bar for each run: how many times fewer uplink bytes than SGD."""
    figure = Figure(figsize=(8.6, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    shown = [line for line in summary if line["x_fewer_uplink_bytes"]][::-1]
    factors = [line["x_fewer_uplink_bytes"] for line in shown]
    bars = axis.barh([line["label"] for line in shown], factors, color="#0072B2")
    axis.bar_label(bars, [f"{value:.0f}x" for value in factors], padding=3)
    axis.set_xscale("log")
    axis.set_xlim(0.8, 4000)
    axis.set_xlabel("times fewer uplink bytes than dense SGD to the same loss")
    axis.set_title(
        "MNIST 3 against 5 by label, M = 10, H = 20, η = 0.1: "
        f"median of {summary[0]['seeds']} seeds",
        loc="left",
        fontsize=10,
    )
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)


def _write(rows: Sequence[dict[str, Any]], path: Path) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def main(
    out: Annotated[Path, typer.Option()] = Path("results/local-steps"),
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    data_dir: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Run the study."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [row for seed in range(seeds) for row in run_seed(seed, data_dir)]
    summary = summarise(rows)
    _write(rows, out / "runs.csv")
    _write(summary, out / "summary.csv")
    plot(summary, out / "local-steps.png")
    for line in summary:
        typer.echo(
            f"{line['label']:28} {line['reached']}/{line['seeds']} reached, "
            f"{line['uploads']} uploads, {line['uplink_bytes']} bytes, "
            f"{line['x_fewer_uplink_bytes']}x"
        )


if __name__ == "__main__":
    typer.run(main)
