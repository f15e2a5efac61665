"""Error against bits on vectors from real training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, PercentFormatter, ScalarFormatter

from .style import BLUE, GREY, INK, RED, add_legend, new_figure, save

_MARKERS = {
    "qsgd": ("s", "#E69F00"),
    "uniform": ("^", "#009E73"),
    "topk": ("v", "#CC79A7"),
    "topk-qsgd": ("P", "#7A4EAB"),
    "natural": ("d", "#8C510A"),
    "sign": ("X", "#56B4E9"),
    "eden, 1 bit": ("*", RED),
}
_LEAST = 1e-2


def plot_rate(found: Mapping[str, Any], path: Path) -> Path:
    """Plot ``benchmarks rate``: one panel for each source, the first vector of each."""
    chosen: dict[str, str] = {}
    for vector in found["vectors"]:
        name = vector["vector"]
        chosen.setdefault(name.split()[0], f"{name}: {vector['coordinates']:,}")
    figure, panels = new_figure(
        "Bits a coordinate and relative error, on vectors from real training",
        "Real bytes, headers included. Bound: the fewest bits for independent normal "
        "values. Order 0: entropy of the best dead-zone quantizer. Top-k's and others' "
        "points beyond the axes are left out.",
        len(chosen),
        ["ecsq", "order 0", "bound", *_MARKERS],
    )
    for axes, title in zip(panels, chosen.values(), strict=True):
        _panel(axes, found, title.rpartition(":")[0])
        axes.set_title(f"{title} coordinates", fontsize=10, loc="left")
    add_legend(figure, panels[0].get_legend_handles_labels()[0])
    return save(figure, path)


def _panel(axes: Axes, found: Mapping[str, Any], vector: str) -> None:
    rows = [row for row in found["rows"] if row["vector"] == vector]
    own = [r for r in rows if r["codec"].startswith("ecsq")]
    axes.plot([r["bits"] for r in own], [r["error"] for r in own], color=BLUE,
              marker="o", linewidth=2, label="ecsq", zorder=3)  # fmt: skip
    curve = [c for c in found["curves"] if c["vector"] == vector]
    axes.plot([c["bits"] for c in curve], [c["error"] for c in curve], color=INK,
              linestyle="--", linewidth=1.3, label="order 0")  # fmt: skip
    bits = np.geomspace(0.01, 4, 100)
    axes.plot(bits, 2.0 ** (-2 * bits), color=GREY, linestyle=":", label="bound")
    for name, (marker, colour) in _MARKERS.items():
        some = [r for r in rows if r["codec"].split(":")[0] == name]
        axes.plot([r["bits"] for r in some], [r["error"] for r in some], marker,
                  color=colour, markersize=6, label=name)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(0.02, 10), ylim=(_LEAST, 1.1))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("bits a coordinate (log scale)")
    axes.set_ylabel("relative error (log scale)")
