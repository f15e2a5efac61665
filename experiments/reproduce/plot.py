"""Plots of curves: the mean of the seeds as a line, their range as a band."""

import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import (
    EngFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
)
from numpy.typing import NDArray

from ..figures import DPI, STYLES, Style
from .axes import AXES, Axis
from .config import Place, RunSpec, Study
from .tables import Row

DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.4, 1.3)), (0, (6, 1.5, 1.4, 1.5)))
LEGEND_ROW = 0.24
ACCURACIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99)
_LAZY = ("lag", "wk1", "wk2", "ps", "pse")
_OTHER = Style("#595959", "h", 0, 2.0)


def plot(
    study: Study, place: Place, rows: Sequence[Row], target: float | None, out: Path
) -> list[Path]:
    """Write the plots of a place, one for each name in the runs' ``plots``.

    Parameters
    ----------
    study : Study
        Title, caption, panels and runs.
    place : Place
        The data set and partition.
    rows : sequence of dict
        The place's rows of ``curves.csv``.
    target : float, optional
        Loss to draw a line at.
    out : Path
        The folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name in dict.fromkeys(p for run in study.runs for p in run.plots):
        runs = [run for run in study.runs if name in run.plots]
        figure = _figure(study, place, runs, rows, target)
        suffix = "" if name == "all" else f"-{name}"
        path = out / f"{place.dataset}-{place.partition}{suffix}.png"
        figure.savefig(path, dpi=DPI, metadata={"Software": None})
        written.append(path)
    return written


def new_figure(
    title: str, caption: str, panels: int, legend_rows: int, columns: int = 3
) -> tuple[Figure, list[Axes]]:
    """Return a figure with title, caption and room for a legend, and its axes."""
    columns = min(panels, columns)
    rows = -(-panels // columns)
    wide = 4.3 * columns if columns > 1 else 6.6
    titles = _wrapped(title, int(wide * 9))
    lines = _wrapped(caption, int(wide * 14))
    top = 0.12 + 0.24 * len(titles) + LEGEND_ROW * legend_rows
    bottom = 0.1 + 0.17 * len(lines)
    high = (3.9 if rows == 1 else 3.3 * rows) + top + bottom
    figure = Figure(figsize=(wide, high), layout="constrained")
    FigureCanvasAgg(figure)
    rect = (0.0, bottom / high, 1.0, 1.0 - (top + bottom) / high)
    cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(rect=rect)
    figure.text(0.1 / wide, 1 - 0.08 / high, "\n".join(titles), va="top", fontsize=13,
                fontweight="bold", parse_math=False)  # fmt: skip
    figure.text(0.1 / wide, 0.06 / high, "\n".join(lines), va="bottom", fontsize=9,
                color="#444444", parse_math=False)  # fmt: skip
    axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[panels:]:
        spare.remove()
    return figure, axes[:panels]


def _wrapped(text: str, width: int) -> list[str]:
    """Return lines that keep "p = 1000", "4 bits" and "by-label" together."""
    text = re.sub(r" ([=<>]) ", "\u00a0\\1\u00a0", text)
    text = re.sub(r"(?<=\d) (?=[a-z%])", "\u00a0", text)
    return textwrap.wrap(text, width, break_on_hyphens=False)


def add_legend(figure: Figure, axes: Axes, columns: int) -> None:
    """Put the legend of `axes` between the title and the plots."""
    wide, high = figure.get_size_inches()
    handles, labels = axes.get_legend_handles_labels()
    top = max(text.get_window_extent().y0 for text in figure.texts)
    figure.legend(
        handles, labels, loc="upper left", ncols=columns, frameon=False, fontsize=9.5,
        handlelength=3.0, columnspacing=1.4, borderaxespad=0,
        bbox_to_anchor=(0.1 / wide, top / figure.dpi / high - 0.02 / high),
    )  # fmt: skip


def dress(axes: Axes) -> None:
    """Give axes a light grid and no frame."""
    axes.grid(color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _figure(
    study: Study,
    place: Place,
    runs: Sequence[RunSpec],
    rows: Sequence[Row],
    target: float | None,
) -> Figure:
    title = f"{study.title} — {place.dataset}, {place.partition}"
    workers = {study.job(place, run, 0).workers for run in runs}
    if len(workers) == 1:
        title += f", M = {workers.pop()}"
    columns = min(len(runs), 2 * len(study.panels))
    figure, axes = new_figure(
        title,
        caption_of(study, parameters_of(study, place, runs), _seeds(study)),
        len(study.panels),
        -(-len(runs) // columns),
    )
    for panel, axis in zip(study.panels, axes, strict=True):
        x, y = (AXES[name] for name in panel.split(":"))
        seen: dict[str, int] = {}
        for position, run in enumerate(runs):
            mine = [row for row in rows if row["run"] == run.label]
            start = 0.02 + 0.15 * position / len(runs)
            _draw(axis, run, mine, x, y, start, seen)
        _finish(axis, x, y, rows, target)
    add_legend(figure, axes[0], columns)
    return figure


def caption_of(study: Study, *parts: str) -> str:
    """Return the study's caption with what a plot adds, and that it is a quick one."""
    added = "; ".join(filter(None, parts))
    found = [study.caption, f"{added}." if added else ""]
    if study.quick:
        found.append("QUICK VERSION: not the paper's experiment.")
    return " ".join(filter(None, found))


def parameters_of(study: Study, place: Place, runs: Sequence[RunSpec]) -> str:
    """Return the parameters that all these runs have in common."""
    jobs = [study.job(place, run, 0) for run in runs]
    lazy = any(job.method in _LAZY for job in jobs)
    texts = (
        [f"η = {job.learning_rate:g}" if not run.learning_rates else ""
         for run, job in zip(runs, jobs, strict=True)],
        [f"D = {job.max_delay}, d_max = {job.d_max}" if lazy else "" for job in jobs],
        [f"batch {job.batch_size}" if job.batch_size is not None
         else f"batch {job.batch_fraction:g} of a worker's data" for job in jobs],
        [f"{job.iterations} iterations" for job in jobs],
    )  # fmt: skip
    common = [text[0] for text in texts if len(set(text)) == 1]
    return ", ".join(filter(None, common))


def _seeds(study: Study) -> str:
    if study.seeds == 1:
        return "one seed"
    return f"lines: mean of {study.seeds} seeds, bands: range"


def _draw(
    axes: Axes,
    run: RunSpec,
    rows: Sequence[Row],
    x: Axis,
    y: Axis,
    start: float,
    seen: dict[str, int],
) -> None:
    style = STYLES.get(rows[0]["method"], _OTHER)
    colour = run.colour or style.colour
    first = 0 if rows[0]["codec"] == "dense" else 1
    variant = seen[colour] = seen.get(colour, first - 1) + 1
    at = np.array([row[x.column] for row in rows], float) * x.factor
    shown = at > 0 if x.log else at >= 0

    def column(name: str) -> NDArray[np.float64]:
        values = np.array([row[name] for row in rows], float) * y.factor
        return np.asarray(values[shown])

    axes.plot(
        at[shown], column(y.column), color=colour, label=run.label,
        linestyle=DASHES[variant % len(DASHES)], linewidth=1.7, marker=style.marker,
        markersize=5.5, markevery=(start, 0.19), markeredgewidth=1.1,
        markeredgecolor=colour if variant else "white",
        markerfacecolor="white" if variant else colour,
    )  # fmt: skip
    if f"{y.column}_low" in rows[0]:
        low, high = column(f"{y.column}_low"), column(f"{y.column}_high")
        axes.fill_between(at[shown], low, high, color=colour, alpha=0.15, linewidth=0)


def _finish(
    axes: Axes, x: Axis, y: Axis, rows: Sequence[Row], target: float | None
) -> None:
    dress(axes)
    axes.set_xlabel(x.label + (" (log scale)" if x.log else ""))
    axes.set_ylabel(y.label + (" (log scale)" if y.log else ""))
    if x.log:
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if y.log:
        axes.set_yscale("log")
        first = max(row[y.column] for row in rows if row["iteration"] == 0)
        low = min(row[f"{y.column}_low"] for row in rows if row[y.column] > 0)
        low = min(low, target or low)
        axes.set_ylim(low / 1.05, min(2 * first, axes.get_ylim()[1]))
        short = axes.get_ylim()[1] / axes.get_ylim()[0] < 12
        axes.yaxis.set_major_locator(LogLocator(10, _ticks(axes) if short else (1, 3)))
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif y.column == "accuracy":  # the last percents matter
        axes.set_yscale("logit")
        axes.yaxis.set_major_locator(FixedLocator(ACCURACIES))
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
        axes.yaxis.set_minor_locator(NullLocator())
    elif y.column == "uploads":
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    if y.column == "loss" and target is not None:
        axes.axhline(target, color="#222222", linewidth=0.8, linestyle=(0, (4, 3)))
        axes.annotate(f"target\n{target:.4g}", (1.01, target), fontsize=8, ha="left",
                      va="center", annotation_clip=True,
                      xycoords=axes.get_yaxis_transform())  # fmt: skip


def _ticks(axes: Axes) -> tuple[float, ...]:
    low, high = axes.get_ylim()
    return (1, 1.5, 2, 3, 4, 5, 6, 8) if high / low < 4 else (1, 2, 3, 5)


_plain: Callable[[float, int | None], str] = lambda value, _: f"{value:g}"  # noqa: E731
