"""The figures of a comparison: loss against uploads, uplink bytes and rounds.

The figures are built with matplotlib's objects and drawn with Agg, so that no
window, no display and none of pyplot's global state is involved.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FuncFormatter,
    Locator,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)
from numpy.typing import NDArray

from experiments.table import display_names, human_bytes, setting

DPI: Final = 150

# The palette of Okabe and Ito, its yellow (faint on white) replaced by grey.
BLACK: Final = "#000000"
ORANGE: Final = "#E69F00"
SKY_BLUE: Final = "#56B4E9"
GREEN: Final = "#009E73"
BLUE: Final = "#0072B2"
VERMILLION: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
GREY: Final = "#8A8A8A"
VIOLET: Final = "#7A4EAB"

_INK: Final = "#222222"
_MUTED: Final = "#595959"
_GRID: Final = "#E4E4E4"

_Dash = Literal["-"] | tuple[float, tuple[float, ...]]

_DASHES: Final[tuple[_Dash, ...]] = (
    "-",
    (0.0, (3.6, 1.5)),
    (0.0, (1.2, 1.2)),
    (0.0, (6.0, 1.5, 1.2, 1.5)),
)


@dataclass(frozen=True)
class Style:
    """How the curves of one method look.

    Attributes
    ----------
    colour : str
        The colour of all the method's curves.
    marker : str
        The marker of all the method's curves.
    dash : int
        Where the method's first curve is in the cycle of line styles.
    width : float
        The line width in points. Of two methods whose curves tend to coincide,
        the one drawn first is the wider and the other is dashed.
    size : float
        The size of the markers in points.
    """

    colour: str
    marker: str
    dash: int
    width: float
    size: float = 7.0


# In drawing order: PS lies over WK2, dashed and thinner, so that both show.
STYLES: Final[Mapping[str, Style]] = {
    "sgd": Style(BLACK, "o", 0, 2.0),
    "lag": Style(PURPLE, "s", 3, 2.0),
    "local-sgd": Style(SKY_BLUE, "X", 0, 2.2, 8.5),
    "fedprox": Style(VIOLET, "d", 2, 2.0),
    "sparse-local-sgd": Style(GREY, "p", 1, 2.0, 8.0),
    "wk1": Style(ORANGE, "^", 0, 2.2, 8.0),
    "wk2": Style(BLUE, "D", 0, 3.4),
    "pse": Style(GREEN, "P", 3, 2.0, 9.0),
    "ps": Style(VERMILLION, "v", 1, 1.9, 8.0),
}
_UNKNOWN: Final = Style(_MUTED, "h", 2, 2.0)


@dataclass(frozen=True)
class Panel:
    """One plot: the loss against a column of the history.

    Attributes
    ----------
    key : str
        The column of the history on the x-axis.
    label : str
        The x-axis' label with its unit.
    title : str
        What the plot shows.
    filename : str
        The file the plot is written to when it stands alone.
    log : bool
        Whether the x-axis is logarithmic; points at zero are then left out.
    """

    key: str
    label: str
    title: str
    filename: str
    log: bool


UPLOADS: Final = Panel(
    "uploads", "uploads (messages)", "Loss against uploads", "loss-uploads.png", True
)
UPLINK_BYTES: Final = Panel(
    "uplink_bytes",
    "uplink payload (bytes)",
    "Loss against uplink bytes",
    "loss-uplink-bytes.png",
    True,
)
ROUNDS: Final = Panel("round", "round", "Loss against rounds", "loss-rounds.png", False)
PANELS: Final = (UPLOADS, UPLINK_BYTES, ROUNDS)
COMPARISON: Final = "comparison.png"

_PARAMETER_NAMES: Final[Mapping[str, str]] = {
    "batch": "batch size",
    "max_delay": "max. delay",
    "d_max": "d_max",
    "l2": "L2 weight",
}


@dataclass(frozen=True)
class _Curve:
    """The points of one run, and how they are drawn."""

    label: str
    method: str
    variant: int
    points: Mapping[str, NDArray[np.float64]]

    @property
    def style(self) -> Style:
        """Return the style of the run's method."""
        return STYLES.get(self.method, _UNKNOWN)

    @property
    def order(self) -> int:
        """Return where the curve comes in drawing order."""
        known = list(STYLES)
        place = known.index(self.method) if self.method in known else len(known)
        return 10 * place + self.variant

    def line(self, panel: Panel | None = None, start: float = 0.0) -> Line2D:
        """Return the curve in `panel`, or a sample of it for the legend."""
        style = self.style
        x, y = _visible(self.points, panel) if panel else (np.zeros(2), np.zeros(2))
        return Line2D(
            x,
            y,
            label=self.label,
            color=style.colour,
            linestyle=_DASHES[(style.dash + self.variant) % len(_DASHES)],
            linewidth=style.width * (0.7 if self.variant else 1.0),
            marker=style.marker,
            markersize=style.size - bool(self.variant),
            markerfacecolor="white" if self.variant else style.colour,
            markeredgecolor=style.colour if self.variant else "white",
            markeredgewidth=1.4 if self.variant else 0.7,
            markevery=(start, 0.19) if panel else None,
            dash_capstyle="butt",
            solid_joinstyle="round",
            zorder=3 + self.order / 100,
        )


def plot_comparison(
    history: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], out: Path
) -> list[Path]:
    """Write the figures of a comparison as PNG files.

    Parameters
    ----------
    history : Sequence[Mapping[str, Any]]
        One row per run and evaluated round.
    summary : Mapping[str, Any]
        The summary of the same comparison.
    out : Path
        The folder to write to, made if it is missing.

    Returns
    -------
    list[Path]
        The files written: one per plot, then the three side by side.

    Raises
    ------
    ValueError
        If `history` is empty.
    """
    out.mkdir(parents=True, exist_ok=True)
    figures = {panel.filename: (panel,) for panel in PANELS}
    written = []
    for name, panels in {**figures, COMPARISON: PANELS}.items():
        figure = build_figure(history, summary, panels)
        path = out / name
        figure.savefig(path, dpi=DPI, format="png", metadata={"Software": None})
        written.append(path)
    return written


def build_figure(
    history: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    panels: Sequence[Panel] = PANELS,
) -> Figure:
    """Build a figure of one or more plots that share a legend and a loss axis.

    Parameters
    ----------
    history : Sequence[Mapping[str, Any]]
        One row per run and evaluated round.
    summary : Mapping[str, Any]
        The summary of the same comparison.
    panels : Sequence[Panel], optional
        The plots, from left to right.

    Returns
    -------
    matplotlib.figure.Figure
        The figure on an Agg canvas, not yet drawn.

    Raises
    ------
    ValueError
        If `history` is empty.
    """
    if not history:
        raise ValueError("the history is empty: there is nothing to plot")
    curves = _curves(history)
    target = summary.get("target_loss")
    layout = _Layout.of(curves, _caption(summary), len(panels))
    figure = Figure(figsize=(layout.width, layout.height), facecolor="white")
    FigureCanvasAgg(figure)
    for axes, panel in zip(layout.axes(figure), panels, strict=True):
        _draw(axes, panel, curves)
        _loss_axis(axes, _loss_limits(curves, target))
        _target_line(axes, target)
    _annotate(figure, layout, curves, panels, summary)
    return figure


def _curves(history: Sequence[Mapping[str, Any]]) -> list[_Curve]:
    """Group the rows of the history by run, in order of first appearance."""
    runs: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in history:
        keys = ("method", "codec", "memory", "local_steps")
        runs.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    labels = display_names([rows[0] for rows in runs.values()])
    seen: dict[str, int] = {}
    curves = []
    for label, rows in zip(labels, runs.values(), strict=True):
        method = str(rows[0]["method"])
        variant = seen[method] = seen.get(method, -1) + 1
        curves.append(_Curve(label, method, variant, _points(rows)))
    return curves


def _points(rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """Return the columns to plot, in order of rounds."""
    ordered = sorted(rows, key=lambda row: int(row["round"]))
    keys = ("loss", *(panel.key for panel in PANELS))
    return {key: np.array([row[key] for row in ordered], dtype=float) for key in keys}


def _visible(
    points: Mapping[str, NDArray[np.float64]], panel: Panel
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the points that the axes can show: no zeros, no infinities."""
    x, loss = points[panel.key], points["loss"]
    shown = np.isfinite(loss) & (loss > 0)
    if panel.log:
        shown &= x > 0
    return x[shown], loss[shown]


def _loss_limits(curves: Sequence[_Curve], target: float | None) -> tuple[float, float]:
    """Return the range of the loss axis.

    A run that diverges is cut off at twice the highest first loss, for it would
    flatten all the others.
    """
    losses = [_visible(curve.points, ROUNDS)[1] for curve in curves]
    losses = [loss for loss in losses if loss.size]
    if not losses:
        return 0.1, 1.0
    high = min(max(loss.max() for loss in losses), 2 * max(loss[0] for loss in losses))
    low = min(loss.min() for loss in losses)
    if target is not None and target > 0:
        low, high = min(low, target), max(high, target)
    margin = max((high / low) ** 0.06, 1.01)
    return float(low / margin), float(high * margin)


def _draw(axes: Axes, panel: Panel, curves: Sequence[_Curve]) -> None:
    """Draw the curves of one plot and its x-axis."""
    if panel.log:
        axes.set_xscale("log")
    for place, curve in enumerate(curves):
        # markers start at different places, not to hide one another
        start = 0.02 + 0.17 * place / len(curves)
        axes.add_line(curve.line(panel, start))
    axes.relim()
    axes.margins(x=0.03)
    axes.autoscale_view(scalex=True, scaley=False)
    axes.set_xlabel(panel.label, fontsize=12, color=_INK, labelpad=5)
    if panel.log:
        _log_ticks(axes, panel)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    _dress(axes)


def _log_ticks(axes: Axes, panel: Panel) -> None:
    """Label the decades of a logarithmic x-axis, and what divides few of them."""
    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    parts = (1.0, 2.0, 5.0) if decades < 1.4 else (1.0, 3.0) if decades < 2 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(10, subs=parts))
    axes.xaxis.set_minor_locator(LogLocator(10, subs=range(2, 10)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    write = _short_bytes if panel is UPLINK_BYTES else _short_count
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: write(x)))


def _short_count(count: float) -> str:
    """Return a tick's count: 500, 2k, 1M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:g}{unit}"
    return f"{count:g}"


def _short_bytes(count: float) -> str:
    """Return a tick's bytes without idle zeros: 500 B, 2 kB, 1 MB."""
    number, unit = human_bytes(count).split()
    return f"{float(number):g} {unit}"


def _loss_axis(axes: Axes, limits: tuple[float, float]) -> None:
    """Make the loss axis logarithmic, with ticks in plain numbers."""
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    axes.yaxis.set_major_locator(_loss_locator(limits))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.4g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _loss_locator(limits: tuple[float, float]) -> Locator:
    """Return ticks that are neither too few nor too many for a range."""
    span = limits[1] / limits[0]
    if span > 1000:
        return LogLocator(10)
    if span > 40:
        return LogLocator(10, subs=(1.0, 3.0))
    if span > 5:
        return LogLocator(10, subs=(1.0, 2.0, 3.0, 5.0))
    if span > 2.5:
        return LogLocator(10, subs=(1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0))
    return MaxNLocator(5)


def _target_line(axes: Axes, target: float | None) -> None:
    """Draw the target loss as a thin dashed line with its value."""
    if target is None or target <= 0:
        return
    axes.axhline(target, color=_INK, linewidth=1.0, linestyle=(0, (5, 4)), zorder=2)
    left = _is_free_on_the_left(axes, target)
    axes.annotate(
        f"target loss {target:.4g}",
        (0.015 if left else 0.985, target),
        xycoords=("axes fraction", "data"),
        xytext=(0, -3 if left else 3),
        textcoords="offset points",
        ha="left" if left else "right",
        va="top" if left else "bottom",
        fontsize=10.5,
        color=_INK,
        zorder=9,
        path_effects=[patheffects.withStroke(linewidth=3, foreground="white")],
    )


def _is_free_on_the_left(axes: Axes, target: float) -> bool:
    """Return whether there is more room before the curves than behind them.

    Falling curves leave two places at the target line: under it, left of the
    first that crosses it, and over it, right of the last one.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    crossings = []
    for line in axes.get_lines():
        points = np.column_stack(line.get_data())
        below = points[points[:, 1] <= target]
        if not str(line.get_label()).startswith("_") and len(points):
            crossings.append(to_axes.transform(below[0])[0] if len(below) else 1.0)
    return not crossings or bool(min(crossings) >= 1 - max(crossings))


def _dress(axes: Axes) -> None:
    """Give the axes a light grid and no frame."""
    axes.set_axisbelow(True)
    axes.grid(True, which="major", color=_GRID, linewidth=0.9)
    axes.tick_params(labelsize=11, color=_MUTED, labelcolor=_INK)
    axes.tick_params(which="minor", color="#B0B0B0", length=2.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9A9A9A")


@dataclass(frozen=True)
class _Layout:
    """Where things are in a figure, in inches."""

    width: float
    columns: int
    rows: int
    panels: int
    caption: str

    left: float = 0.95
    right: float = 0.28
    gap: float = 0.38
    title: float = 0.84
    row: float = 0.245
    label: float = 0.68
    line: float = 0.2

    @classmethod
    def of(cls, curves: Sequence[_Curve], caption: str, panels: int) -> _Layout:
        """Return the layout for the given legend, caption and plots."""
        width = 12.0 if panels > 1 else 7.2
        columns = _legend_columns([curve.label for curve in curves], width - 0.5)
        rows = math.ceil(len(curves) / columns)
        wrapped = textwrap.fill(caption, int((width - 0.5) * 14))
        wrapped = wrapped.replace("\N{NO-BREAK SPACE}", " ")
        return cls(width, columns, rows, panels, wrapped)

    @property
    def top(self) -> float:
        """Return the height above the plots."""
        return self.title + self.rows * self.row + 0.2

    @property
    def bottom(self) -> float:
        """Return the height below the plots."""
        lines = self.caption.count("\n") + 1 if self.caption else 0
        return self.label + lines * self.line + 0.08

    @property
    def height(self) -> float:
        """Return the height of the figure."""
        return self.top + (3.45 if self.panels > 1 else 3.9) + self.bottom

    def axes(self, figure: Figure) -> list[Axes]:
        """Add the plots to the figure; only the first shows the loss axis."""
        room = self.width - self.left - self.right
        width = (room - self.gap * (self.panels - 1)) / self.panels
        grid = figure.add_gridspec(
            1,
            self.panels,
            left=self.left / self.width,
            right=1 - self.right / self.width,
            top=1 - self.top / self.height,
            bottom=self.bottom / self.height,
            wspace=self.gap / width,
        )
        axes = [figure.add_subplot(grid[0, place]) for place in range(self.panels)]
        axes[0].set_ylabel("loss (log scale)", fontsize=12, color=_INK, labelpad=6)
        for other in axes[1:]:
            other.tick_params(axis="y", labelleft=False, length=0)
        return axes


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """Return the fewest columns of the lowest legend that fits in `width` inches."""
    fitting = [
        columns
        for columns in range(1, len(labels) + 1)
        if sum(
            0.9 + 0.09 * max(len(label) for label in part)
            for part in _split(labels, columns)
        )
        <= width
    ]
    rows = {columns: math.ceil(len(labels) / columns) for columns in fitting or [1]}
    return min(rows, key=lambda columns: (rows[columns], columns))


def _split(labels: Sequence[str], columns: int) -> list[Sequence[str]]:
    """Split the labels over the columns as a legend does, the first ones longer."""
    size, longer = divmod(len(labels), columns)
    ends = [place * size + min(place, longer) for place in range(columns + 1)]
    return [labels[start:end] for start, end in itertools.pairwise(ends)]


def _annotate(
    figure: Figure,
    layout: _Layout,
    curves: Sequence[_Curve],
    panels: Sequence[Panel],
    summary: Mapping[str, Any],
) -> None:
    """Add the title, the setting, the legend and the caption."""
    left, height = 0.2 / layout.width, layout.height
    title = panels[0].title if len(panels) == 1 else "Loss against communication"
    texts = (
        (title, 1 - 0.14 / height, 15.0, "bold", _INK, "top"),
        (setting(summary), 1 - 0.46 / height, 12.0, "normal", _MUTED, "top"),
        (layout.caption, 0.1 / height, 9.5, "normal", _MUTED, "bottom"),
    )
    for text, y, size, weight, colour, side in texts:
        figure.text(
            left,
            y,
            text,
            fontsize=size,
            fontweight=weight,
            color=colour,
            va=side,
            linespacing=1.35,
            parse_math=False,
        )
    _legend(figure, layout, curves)


def _legend(figure: Figure, layout: _Layout, curves: Sequence[_Curve]) -> None:
    """Add the one legend, between the setting and the plots."""
    legend = figure.legend(
        handles=[curve.line() for curve in curves],
        loc="upper left",
        bbox_to_anchor=(0.2 / layout.width, 1 - layout.title / layout.height),
        ncols=layout.columns,
        frameon=False,
        fontsize=12,
        labelcolor=_INK,
        handlelength=3.0,
        handletextpad=0.6,
        columnspacing=1.6,
        labelspacing=0.45,
        borderpad=0.0,
        borderaxespad=0.0,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def _caption(summary: Mapping[str, Any]) -> str:
    """Return the parameters of the comparison in one line."""
    values = {**summary.get("parameters", {}), "seed": summary.get("seed")}
    parts = [
        f"{_PARAMETER_NAMES.get(key, key.replace('_', ' '))} {_number(value)}"
        for key, value in values.items()
        if value is not None
    ]
    # a line may end between two parameters, not within one
    parts = [part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts]
    return ", ".join(parts)


def _number(value: object) -> str:
    """Write a parameter's value without idle digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:g}".replace("e-0", "e-").replace("e+0", "e+")
