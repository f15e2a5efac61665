"""Curves: the mean of the seeds as a line, their range as a band."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    EngFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
)
from numpy.typing import NDArray

from .style import DASHES, INK, STYLES, UNKNOWN, Style, add_legend, new_figure

_ACCURACIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99)


@dataclass(frozen=True)
class Axis:
    """What an axis shows: a column times a factor."""

    column: str
    label: str
    log: bool = False
    factor: float = 1.0


AXES: Final[Mapping[str, Axis]] = {
    "rounds": Axis("round", "round"),
    "iterations": Axis("iteration", "iteration"),
    "epochs": Axis("iteration", "epoch", factor=0.1),
    "uploads": Axis("uploads", "uploads (messages)", log=True),
    "upload_count": Axis("uploads", "uploads so far (messages)"),
    "upload_rate": Axis("upload_rate", "share of workers that upload"),
    "bits": Axis("uplink_bytes", "uplink payload (bits)", log=True, factor=8.0),
    "bytes": Axis("uplink_bytes", "uplink payload (bytes)", log=True),
    "total": Axis("total_bytes", "payload both ways (bytes)", log=True),
    "loss": Axis("loss", "training loss", log=True),
    "accuracy": Axis("accuracy", "test accuracy (logit scale)"),
}
"""What a panel ``x:y`` can show."""


@dataclass(frozen=True)
class Curve:
    """The points of one run, and how they are drawn.

    Attributes
    ----------
    label, method, codec : str
        The legend's name; curves of a method share a colour, those with a codec have
        other dashes and hollow markers.
    rows : sequence of mapping
        A row for each point: the columns of `AXES`, of some also ``_low``, ``_high``.
    colour : str, optional
        Instead of the method's.
    dash : Any, optional
        Instead of the method's.
    """

    label: str
    method: str
    codec: str
    rows: Sequence[Mapping[str, Any]]
    colour: str | None = None
    dash: Any = None

    @property
    def style(self) -> Style:
        """The style of the run's method."""
        return STYLES.get(self.method, UNKNOWN)

    @property
    def order(self) -> int:
        """Where the curve comes in drawing order."""
        return [*STYLES, self.method].index(self.method)

    def column(self, name: str) -> NDArray[np.float64]:
        """Return a column."""
        return np.array([row[name] for row in self.rows], float)

    def points(self, x: Axis, y: Axis) -> tuple[NDArray[np.float64], Any]:
        """Return x, and which points the axes can show: no zeros, no infinities."""
        at, values = self.column(x.column) * x.factor, self.column(y.column)
        shown = np.isfinite(values) & (at > 0 if x.log else at >= 0)
        return at, shown & (values > 0) if y.log else shown


def curves_figure(
    title: str,
    caption: str,
    curves: Sequence[Curve],
    panels: Sequence[str],
    target: float | None = None,
    *,
    columns: int = 3,
    subtitle: str = "",
) -> Figure:
    """Return a figure of panels ``x:y`` that share a legend.

    Raises
    ------
    ValueError
        If there are no curves.
    """
    if not curves:
        raise ValueError("the history is empty: there is nothing to plot")
    labels = [curve.label for curve in curves]
    figure, axes = new_figure(
        title, caption, len(panels), labels, columns=columns, subtitle=subtitle
    )
    for axis, panel in zip(axes, panels, strict=True):
        x, y = (AXES[name] for name in panel.split(":"))
        draw(axis, curves, x, y, target)
    add_legend(figure, axes[0].get_legend_handles_labels()[0])
    return figure


def draw(
    axes: Axes, curves: Sequence[Curve], x: Axis, y: Axis, target: float | None
) -> None:
    """Draw curves into a panel, and dress its axes."""
    seen: dict[str, int] = {}
    for place, curve in enumerate(curves):
        colour = curve.colour or curve.style.colour
        first = 0 if curve.codec == "dense" else 1
        variant = seen[colour] = seen.get(colour, first - 1) + 1
        # markers start at different places, not to hide one another
        _line(axes, curve, x, y, colour, variant, 0.02 + 0.17 * place / len(curves))
    axes.set_xlabel(x.label + (" (log scale)" if x.log else ""))
    axes.set_ylabel(y.label + (" (log scale)" if y.log else ""))
    if x.log:
        if not any(curve.points(x, y)[1].any() for curve in curves):
            axes.set_xlim(1, 10)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        if high < 20 * low:  # not two powers of ten: label some numbers between
            axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    _dress_y(axes, y, curves, target)


def _line(
    axes: Axes, curve: Curve, x: Axis, y: Axis, colour: str, variant: int, start: float
) -> Line2D:
    at, shown = curve.points(x, y)
    style = curve.style
    dash = DASHES[(style.dash + variant) % len(DASHES)]
    (line,) = axes.plot(
        at[shown], curve.column(y.column)[shown] * y.factor, color=colour,
        label=curve.label, linestyle=dash if curve.dash is None else curve.dash,
        linewidth=0.85 * style.width * (0.7 if variant else 1.0), marker=style.marker,
        markersize=style.size, markevery=(start, 0.19), markeredgewidth=1.1,
        markeredgecolor=colour if variant else "white",
        markerfacecolor="white" if variant else colour,
        zorder=3 + (10 * curve.order + variant) / 100,
    )  # fmt: skip
    if f"{y.column}_low" in curve.rows[0]:
        low, high = (curve.column(f"{y.column}_{end}")[shown] * y.factor
                     for end in ("low", "high"))  # fmt: skip
        axes.fill_between(at[shown], low, high, color=colour, alpha=0.15, linewidth=0)
    return line


def _dress_y(
    axes: Axes, y: Axis, curves: Sequence[Curve], target: float | None
) -> None:
    if y.log:
        axes.set_yscale("log")
        axes.set_ylim(*_limits(curves, y, target))
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(10, _ticks(high / low)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif y.column == "accuracy":  # the last percents matter
        axes.set_yscale("logit")
        axes.yaxis.set_major_locator(FixedLocator(_ACCURACIES))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    elif y.column == "uploads":
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    if y.column == "loss" and target is not None and target > 0:
        axes.axhline(target, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=2)
        axes.annotate(f"target\n{target:.4g}", (1.01, target), fontsize=8, ha="left",
                      va="center", annotation_clip=False,
                      xycoords=axes.get_yaxis_transform())  # fmt: skip


def _limits(
    curves: Sequence[Curve], y: Axis, target: float | None
) -> tuple[float, float]:
    """Return the range of a logarithmic y-axis.

    A run that diverges is cut off at twice the highest first value, for it would
    flatten all the others.
    """
    found = []
    for curve in curves:
        values = curve.column(y.column)
        shown = values[np.isfinite(values) & (values > 0)]
        if shown.size:
            found.append((shown.min(), shown.max(), shown[0]))
    if not found:
        return 0.1, 1.0
    lows, highs, firsts = zip(*found, strict=True)
    low, high = min(lows), min(max(highs), 2 * max(firsts))
    if target is not None and target > 0:
        low, high = min(low, target), max(high, target)
    margin = max((high / low) ** 0.05, 1.01)
    return float(low / margin), float(high * margin)


def _ticks(span: float) -> tuple[float, ...]:
    if span < 4:
        return (1, 1.5, 2, 3, 4, 5, 6, 8)
    return (1, 2, 3, 5) if span < 12 else (1, 3)
