"""The figures of ``compare`` and ``codecs``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import tables
from ..table import DISPLAY_NAMES, display_names, grouped, setting
from .curves import AXES, Curve, curves_figure, draw
from .style import add_legend, new_figure, save

PANELS: Final = {
    "loss-uploads.png": "uploads:loss",
    "loss-uplink-bytes.png": "bytes:loss",
    "loss-total-bytes.png": "total:loss",
    "loss-rounds.png": "rounds:loss",
    "accuracy-rounds.png": "rounds:accuracy",
}
"""What stands alone in each file."""
COMPARISON: Final = "comparison.png"
COMPARED: Final = ("uploads:loss", "bytes:loss", "total:loss", "rounds:accuracy")
"""The panels of the figure that has several."""
_NAMES: Final = {
    "batch_size": "batch size",
    "max_delay": "max. delay",
    "d_max": "d_max",
    "l2": "L2 weight",
}
_DASHES: Final[dict[str, Any]] = {"innovation": "-", "gradient": "--", "error": ":"}
_COLOURS: Final = (
    *("#000000", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#D55E00"),
    *("#CC79A7", "#8A8A8A", "#7A4EAB", "#A0522D", "#B8A800"),
)

Rows = Sequence[Mapping[str, Any]]


def plot_comparison(history: Rows, summary: Mapping[str, Any], out: Path) -> list[Path]:
    """Write the figures of a comparison as PNG files; return them.

    Raises
    ------
    ValueError
        If `history` is empty.
    """
    shown = {name: (panel,) for name, panel in PANELS.items()}
    return [
        save(build_figure(history, summary, panels), out / name)
        for name, panels in {**shown, COMPARISON: COMPARED}.items()
    ]


def build_figure(
    history: Rows,
    summary: Mapping[str, Any],
    panels: Sequence[str] = COMPARED,
) -> Figure:
    """Return a figure of one or more panels ``x:y`` of a comparison."""
    title = "Loss and accuracy against communication"
    if len(panels) == 1:
        x, y = panels[0].split(":")
        what = {"bytes": "uplink bytes", "total": "bytes both ways"}.get(x, x)
        title = f"{y.capitalize()} against {what}"
    return curves_figure(
        title,
        _caption(summary),
        curves_of(history),
        panels,
        summary.get("target_loss"),
        columns=2,
        subtitle=setting(summary),
    )


def curves_of(history: Rows) -> list[Curve]:
    """Return a curve for each run, its seeds taken together, in order of appearance."""
    groups = grouped(history)
    labels = display_names([rows[0] for rows in groups])
    return [
        Curve(label, rows[0]["method"], rows[0]["codec"], _band(rows))
        for label, rows in zip(labels, groups, strict=True)
    ]


def _band(rows: Rows) -> list[dict[str, Any]]:
    """Return a row for each round that all seeds have: means, and the losses' range."""
    seeds: dict[Any, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: int(row["round"])):
        seeds.setdefault(row.get("seed"), []).append(row)
    counts = ("round", "uploads", "uplink_bytes", "total_bytes")
    return tables.band(list(seeds.values()), [c for c in counts if c in rows[0]])


def _caption(summary: Mapping[str, Any]) -> str:
    """Return the parameters of the comparison in one line."""
    values = {**summary.get("parameters", {}), "seed": summary.get("seed")}
    parts = [
        f"{_NAMES.get(key, key.replace('_', ' '))} {_number(value)}"
        for key, value in values.items()
        if value is not None and value != "constant"
    ]
    if summary.get("seeds", 1) > 1:
        parts[-1] = f"{summary['seeds']} seeds: mean and range"
    # a line may end between two parameters, not within one
    return ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)


def _number(value: object) -> str:
    """Write a parameter's value without idle digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:g}".replace("e-0", "e-").replace("e+0", "e+")


def plot_codecs(history: Rows, summary: Mapping[str, Any], path: Path) -> Path:
    """Plot loss against uplink bytes of all combinations, a panel for each rule."""
    codecs = list(dict.fromkeys(row["codec"] for row in history))
    colours = dict(zip(codecs, _COLOURS, strict=False))
    handles = [Line2D([], [], color=colours[c], label=c) for c in codecs]
    memories = {row["memory"] for row in history}
    handles += [
        Line2D([], [], color="#555555", ls=_DASHES[m], label=f"{m} memory")
        for m in _DASHES
        if m in memories
    ]
    methods = list(dict.fromkeys(row["method"] for row in history))
    labels = [str(handle.get_label()) for handle in handles]
    title = "Loss against uplink payload, all codecs and memories"
    figure, axes = new_figure(
        title, _caption(summary), len(methods), labels, subtitle=setting(summary)
    )
    for axis, method in zip(axes, methods, strict=True):
        groups = grouped([row for row in history if row["method"] == method])
        curves = [
            Curve("", "", "dense", rows, colours[rows[0]["codec"]],
                  _DASHES[rows[0]["memory"]])
            for rows in groups
        ]  # fmt: skip
        draw(axis, curves, AXES["bytes"], AXES["loss"], summary["target_loss"])
        for line in axis.get_lines():
            line.set_marker("")
        axis.set_title(DISPLAY_NAMES[method])
    add_legend(figure, handles)
    return save(figure, path)
