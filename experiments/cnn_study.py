"""Uploads that the CNN on MNIST takes to a training loss of 0.1, one thing varied.

``python -m experiments.cnn_study --out FOLDER [NAME...]`` runs what is not in the
folder yet, a file for each run, and then draws and tabulates all that is there.
"""

import csv
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from .batches import Batch
from .cnn_study_plot import plot_study
from .compare import Comparison, run_method, to_target
from .methods import Hyperparameters
from .tasks import build_task

TARGET = 0.1
EVALUATE_EVERY = 25


@dataclass(frozen=True)
class Setting:
    """One run: the paper's parameters, unless told otherwise.

    Attributes
    ----------
    method, codec, partition : str
        As in the comparison.
    batch : int
        Examples a worker's minibatch.
    c : float
        In units of 1/η², or of 1 with local steps.
    learning_rate, max_delay, d_max, k0, local_steps : float and int
        See `Hyperparameters`.
    rounds, seed : int
        The most rounds, and the seed.
    """

    method: str = "wk2"
    codec: str = "dense"
    partition: str = "iid"
    batch: int = 12
    c: float = 1.0
    learning_rate: float = 0.05
    max_delay: int = 50
    d_max: int = 10
    k0: float | None = None
    local_steps: int = 1
    rounds: int = 3000
    seed: int = 0

    def comparison(self) -> Comparison:
        """Return what `experiments.compare.run_method` takes."""
        unit = 1.0 if self.local_steps > 1 else self.learning_rate**-2
        parameters = Hyperparameters(
            self.learning_rate,
            self.max_delay,
            self.d_max,
            self.c * unit,
            self.local_steps,
            k0=self.k0,
        )
        return Comparison(
            "mnist",
            self.partition,
            (self.method,),
            (self.codec,),
            "innovation",
            10,
            self.rounds,
            EVALUATE_EVERY,
            self.seed,
            Batch(size=self.batch),
            parameters,
            TARGET,
            TARGET,
        )


def _settings() -> dict[str, Setting]:
    """Return all runs of the study, by name."""
    found: dict[str, Setting] = {}
    for partition in ("iid", "by-label"):
        base = Setting(partition=partition)
        found[f"{partition}-sgd"] = replace(base, method="sgd")
        for c in (1, 3, 10):
            found[f"{partition}-wk2-c{c}"] = replace(base, c=c)
        for bits in (8, 4):
            codec = f"qsgd:bits={bits}"
            found[f"{partition}-sgd-{bits}bit"] = replace(
                base, method="sgd", codec=codec
            )
            found[f"{partition}-wk2-c3-{bits}bit"] = replace(base, c=3, codec=codec)
    small = Setting(partition="by-label", learning_rate=0.02)
    found["by-label-eta0.02-sgd"] = replace(small, method="sgd")
    found["by-label-eta0.02-wk2-c3"] = replace(small, c=3)
    found |= _variations(Setting())
    return found


def _variations(base: Setting) -> dict[str, Setting]:
    """Return the iid runs that differ in one thing, each beside an SGD of its own."""
    changes: dict[str, dict[str, Any]] = {
        "b32": {"batch": 32},
        "eta0.02": {"learning_rate": 0.02},
        "eta0.1": {"learning_rate": 0.1},
        "eta0.2": {"learning_rate": 0.2},
        "eta0.1-k300": {"learning_rate": 0.1, "k0": 300.0},
    }
    found = {}
    for name, change in changes.items():
        changed = replace(base, **change)
        found[f"{name}-sgd"] = replace(changed, method="sgd")
        for c in (1, 3):
            found[f"{name}-wk2-c{c}"] = replace(changed, c=c)
    alone: dict[str, dict[str, Any]] = {
        "D200": {"max_delay": 200},
        "d1": {"d_max": 1},
        "d50": {"d_max": 50},
    }
    for name, change in alone.items():
        found[f"{name}-wk2-c3"] = replace(base, c=3, **change)
    found["pse-c1"] = replace(base, method="pse")
    found["local4-sgd"] = replace(base, method="local-sgd", local_steps=4)
    found["local4-wk2-c1"] = replace(base, local_steps=4)
    return found


SETTINGS = _settings()


def run(name: str, data_dir: Path | None = None) -> dict[str, Any]:
    """Run one setting until the target is reached; return what its file holds."""
    setting = SETTINGS[name]
    config = setting.comparison()
    task = build_task(
        "mnist",
        config.workers,
        config.partition,
        config.batch,
        seed=config.seed,
        data_dir=data_dir,
    )
    done = run_method(config, task, setting.method, setting.codec, lambda: None)
    done.totals.update(to_target(done.history, TARGET))
    columns = ("round", "uploads", "uplink_bytes", "loss", "accuracy")
    return {
        "name": name,
        "setting": asdict(setting),
        "totals": done.totals,
        "history": [[row[c] for c in columns] for row in done.history],
    }


def summary(runs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each run, with its factors over the SGD it stands beside.

    A run stands beside dense SGD with the same partition, batch and step sizes.
    """
    rows = []
    for name, found in runs.items():
        totals, setting = found["totals"], found["setting"]
        row = {"name": name, **setting}
        row |= {k: totals[k] for k in totals if k.endswith("to_target")}
        row["final_loss"] = found["history"][-1][3]
        beside = _beside(setting, runs)
        for what in ("uploads", "uplink_bytes"):
            own = totals[f"{what}_to_target"]
            theirs = beside and beside["totals"][f"{what}_to_target"]
            row[f"x_fewer_{what}"] = round(theirs / own, 2) if own and theirs else None
        rows.append(row)
    return rows


def _beside(
    setting: dict[str, Any], runs: dict[str, dict[str, Any]]
) -> dict[str, Any] | None:
    same = ("partition", "batch", "learning_rate", "k0", "seed")
    for found in runs.values():
        other = found["setting"]
        plain = other["method"] == "sgd" and other["codec"] == "dense"
        if plain and all(other[k] == setting[k] for k in same):
            return found
    return None


def main(
    names: Annotated[list[str] | None, typer.Argument(help="none: all")] = None,
    out: Annotated[Path, typer.Option()] = Path("results/mnist-cnn"),
    data_dir: Annotated[Path | None, typer.Option()] = None,
    draw_only: Annotated[bool, typer.Option(help="run nothing")] = False,
) -> None:
    """Run the study, or the runs that are named; then draw and tabulate."""
    folder = out / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    for name in () if draw_only else names or SETTINGS:
        path = folder / f"{name}.json"
        if not path.exists():
            text = json.dumps(run(name, data_dir), allow_nan=False)
            path.write_text(text + "\n")
            typer.echo(f"{name}: {text.partition('history')[0]}")
    there = [n for n in SETTINGS if (folder / f"{n}.json").exists()]
    runs = {n: json.loads((folder / f"{n}.json").read_text()) for n in there}
    if not runs:
        raise typer.BadParameter(f"{folder} holds no runs: leave --draw-only out")
    rows = summary(runs)
    with (out / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plot_study(runs, TARGET, out / "mnist-cnn.png")


if __name__ == "__main__":
    typer.run(main)
