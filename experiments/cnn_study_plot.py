"""The plot of `experiments.cnn_study`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_CURVES = (
    ("sgd", "SGD", "#000000", "-"),
    ("wk2-c1", "WK2, c = 1/η²", "#0072B2", "-"),
    ("wk2-c3", "WK2, c = 3/η²", "#D55E00", "-"),
    ("wk2-c10", "WK2, c = 10/η²", "#CC79A7", "-"),
    ("sgd-4bit", "SGD, 4 bits", "#000000", ":"),
    ("wk2-c3-8bit", "WK2, c = 3/η², 8 bits", "#D55E00", "--"),
    ("wk2-c3-4bit", "WK2, c = 3/η², 4 bits", "#D55E00", ":"),
)
_UPLOADS, _BYTES, _LOSS = 1, 2, 3


def plot_study(runs: Mapping[str, dict[str, Any]], target: float, path: Path) -> None:
    """Draw loss against uploads and uplink bytes, a row for each partition run."""
    there = [p for p in ("iid", "by-label") if f"{p}-sgd" in runs]
    if not there:
        return
    figure = Figure(figsize=(11, 0.6 + 3.6 * len(there)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(
        "CNN on MNIST, M = 10, batch 12, η = 0.05, D = 50, d_max = 10: runs end at a "
        f"training loss of {target}",
        x=0.01,
        ha="left",
        fontweight="bold",
    )
    panels = figure.subplots(len(there), 2, sharey=True, squeeze=False)
    for row, partition in zip(panels, there, strict=True):
        _panel(row[0], runs, partition, _UPLOADS, target)
        _panel(row[1], runs, partition, _BYTES, target)
        row[0].set_ylabel(f"training loss, {partition}")
    panels[-1][0].set_xlabel("uploads (log scale)")
    panels[-1][1].set_xlabel("uplink payload (bytes, log scale)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=150)


def _panel(
    axis: Axes,
    runs: Mapping[str, dict[str, Any]],
    partition: str,
    column: int,
    target: float,
) -> None:
    for name, label, colour, dash in _CURVES:
        found = runs.get(f"{partition}-{name}")
        if found is None:
            continue
        points = [(row[column], row[_LOSS]) for row in found["history"] if row[column]]
        x, y = zip(*points, strict=True)
        axis.plot(x, y, color=colour, ls=dash, lw=1.4, label=label)
        axis.plot(x[-1], y[-1], "o", color=colour, ms=4)
    axis.axhline(target, color="#666666", lw=0.8, ls=(0, (4, 3)))
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.grid(color="#E4E4E4", lw=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
