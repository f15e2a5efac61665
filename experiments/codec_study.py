"""Every codec in every memory it makes sense in, by uplink bytes to a common loss."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.table import Table

from lasg_flwr.settings import Memory, Settings

from .compare import (
    TARGET_FACTOR,
    Comparison,
    Row,
    run_method,
    summarise,
    to_target,
)
from .methods import RULES
from .table import DISPLAY_NAMES, human_bytes, setting
from .tasks import Task

METHODS = ("sgd", "wk2", "pse")
MEMORIES: tuple[Memory, ...] = ("innovation", "gradient", "error")
CODECS = (
    "dense",
    "float16",
    "qsgd:bits=8",
    "qsgd:bits=4",
    "qsgd:bits=2",
    "uniform:bits=4",
    "natural",
    "sign",
    "topk:fraction=0.05",
    "topk-qsgd:fraction=0.05",
    "randk:fraction=0.05",
)
_COLOURS = (
    *("#000000", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#D55E00"),
    *("#CC79A7", "#8A8A8A", "#7A4EAB", "#A0522D", "#B8A800"),
)
_DASHES: dict[str, Any] = {"innovation": "-", "gradient": "--", "error": ":"}


@dataclass(frozen=True)
class Combination:
    """A rule with a codec in a memory."""

    method: str
    codec: str
    memory: Memory


def combinations(codecs: Sequence[str] = CODECS) -> list[Combination]:
    """Return all combinations that `lasg_flwr` allows, dense ones once a rule.

    Examples
    --------
    >>> [(c.method, c.memory) for c in combinations(["dense"])]
    [('sgd', 'innovation'), ('wk2', 'innovation'), ('pse', 'innovation')]
    """
    found = []
    for method in METHODS:
        for codec in codecs:
            for memory in MEMORIES:
                if codec == "dense" and memory != "innovation":
                    continue
                try:
                    Settings(RULES[method].name, codec, memory, "per-worker", 0)
                except ValueError:
                    continue
                found.append(Combination(method, codec, memory))
    return found


def study(
    config: Comparison,
    task: Task,
    factor: float = TARGET_FACTOR,
    progress: Callable[[], None] = lambda: None,
) -> tuple[list[Row], Row]:
    """Run all combinations; the target is `factor` times dense SGD's final loss.

    Returns
    -------
    history : list of dict
        As `experiments.compare.compare` gives it.
    summary : dict
        Likewise, with ``x_fewer_bytes``: dense SGD's uplink bytes to the target over
        the run's.
    """
    runs = []
    for combination in combinations(config.codecs):
        own = replace(config, memory=combination.memory)
        runs.append(
            run_method(own, task, combination.method, combination.codec, progress)
        )
    target = factor * runs[0].totals["final_loss"]
    for run in runs:
        run.totals.update(to_target(run.history, target))
    dense = runs[0].totals["uplink_bytes_to_target"]
    for run in runs:
        reached = run.totals["uplink_bytes_to_target"]
        run.totals["x_fewer_bytes"] = dense / reached if dense and reached else None
    history = [row for run in runs for row in run.history]
    return history, summarise(config, task, target, runs)


def best_table(summary: Row, most: int = 12) -> Table:
    """Return the combinations that reach the target with the fewest uplink bytes."""
    reached = [r for r in summary["runs"] if r["uplink_bytes_to_target"] is not None]
    reached.sort(key=lambda r: r["uplink_bytes_to_target"])
    missed = len(summary["runs"]) - len(reached)
    table = Table(
        *(
            "rule",
            "codec",
            "memory",
            "uploads",
            "uplink",
            "x fewer bytes",
            "final loss",
        ),
        title=setting(summary),
        caption=f"target loss {summary['target_loss']:.6g}; {missed} of "
        f"{len(summary['runs'])} combinations did not reach it",
    )
    for run in reached[:most]:
        table.add_row(
            DISPLAY_NAMES[run["method"]],
            run["codec"],
            run["memory"],
            str(run["uploads_to_target"]),
            human_bytes(run["uplink_bytes_to_target"]),
            f"{run['x_fewer_bytes']:.0f}x",
            f"{run['final_loss']:.4f}",
        )
    return table


def plot(history: Sequence[Row], summary: Row, out: Path) -> Path:
    """Plot loss against uplink bytes of all combinations, one panel for each rule."""
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"Loss against uplink payload, all codecs and memories — {setting(summary)}",
        x=0.01,
        ha="left",
        fontweight="bold",
    )
    codecs = list(dict.fromkeys(row["codec"] for row in history))
    colours = dict(zip(codecs, _COLOURS, strict=False))
    axes: list[Axes] = list(figure.subplots(1, len(METHODS), sharey=True, sharex=True))
    for axis, method in zip(axes, METHODS, strict=True):
        _panel(axis, [r for r in history if r["method"] == method], colours)
        axis.set_title(DISPLAY_NAMES[method])
        axis.axhline(summary["target_loss"], color="#222222", lw=0.8, ls=(0, (4, 3)))
    axes[0].set_ylabel("training loss (log scale)")
    axes[0].text(0.02, summary["target_loss"], "target", va="bottom", fontsize=8,
                 transform=axes[0].get_yaxis_transform())  # fmt: skip
    handles = [Line2D([], [], color=colours[c], label=c) for c in codecs]
    handles += [
        Line2D([], [], color="#555555", ls=_DASHES[m], label=f"{m} memory")
        for m in MEMORIES
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=7, fontsize=8)
    path = out / "codecs.png"
    figure.savefig(path, dpi=150)
    return path


def _panel(axis: Axes, rows: Sequence[Row], colours: dict[str, str]) -> None:
    curves: dict[tuple[str, str], list[tuple[int, float]]] = {}
    top = max(row["loss"] for row in rows if row["round"] == 0)
    for row in rows:
        if row["uplink_bytes"] > 0 and math.isfinite(row["loss"]):
            point = (row["uplink_bytes"], min(row["loss"], 2 * top))
            curves.setdefault((row["codec"], row["memory"]), []).append(point)
    for (codec, memory), points in curves.items():
        x, y = zip(*points, strict=True)
        axis.plot(x, y, color=colours[codec], ls=_DASHES[memory], lw=1.4)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("uplink payload (bytes, log scale)")
    axis.grid(color="#E4E4E4", lw=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def write(summary: Row, out: Path) -> None:
    """Write ``summary.json`` into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(summary, indent=2, allow_nan=False)
    (out / "summary.json").write_text(text + "\n")
