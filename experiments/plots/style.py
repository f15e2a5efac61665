"""What all plots have in common: colours, and a figure with title, legend, caption."""

import itertools
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

DPI: Final = 150
DASHES: Final[tuple[Any, ...]] = (
    "-",
    (0.0, (3.6, 1.5)),
    (0.0, (1.2, 1.2)),
    (0.0, (6.0, 1.5, 1.2, 1.5)),
)
INK, GREY, RED, BLUE = "#222222", "#666666", "#D55E00", "#0072B2"


@dataclass(frozen=True)
class Style:
    """How the curves of one method look: the same colour and marker everywhere.

    `dash` is where its first curve is in `DASHES`; `width` and `size` are points. Of
    two methods whose curves tend to coincide, the one drawn first is the wider.
    """

    colour: str
    marker: str
    dash: int = 0
    width: float = 2.0
    size: float = 5.5


# The palette of Okabe and Ito, its yellow (faint on white) replaced by grey, in
# drawing order: PS lies over WK2, dashed and thinner, so that both show.
STYLES: Final[Mapping[str, Style]] = {
    "sgd": Style("#000000", "o"),
    "lag": Style("#CC79A7", "s", 3),
    "local-sgd": Style("#56B4E9", "X", size=6.5),
    "fedprox": Style("#7A4EAB", "d", 2),
    "sparse-local-sgd": Style("#8A8A8A", "p", 1, size=6.5),
    "wk1": Style("#E69F00", "^", size=6.5),
    "wk2": Style("#0072B2", "D", width=3.0),
    "pse": Style("#009E73", "P", 3, size=7.0),
    "ps": Style("#D55E00", "v", 1, 1.8, 6.5),
    "vr": Style("#8C510A", "*", 1, size=8.5),
}
UNKNOWN: Final = Style("#595959", "h", 2)
_LEGEND_ROW = 0.24


def new_figure(
    title: str,
    caption: str,
    panels: int,
    labels: Sequence[str] = (),
    *,
    columns: int = 3,
    subtitle: str = "",
) -> tuple[Figure, list[Axes]]:
    """Return a figure with title, caption and room for a legend, and its axes."""
    columns = min(panels, columns)
    rows = -(-panels // columns)
    wide = 4.3 * columns if columns > 1 else 7.2
    titles = _wrapped(title, int(wide * 9))
    lines = _wrapped(caption, int(wide * 14))
    below = 0.12 + 0.24 * len(titles)
    top = below + (0.24 if subtitle else 0)
    top += _LEGEND_ROW * -(-len(labels) // legend_columns(labels, wide))
    bottom = 0.1 + 0.17 * len(lines)
    high = (3.9 if rows == 1 else 3.3 * rows) + top + bottom
    figure = Figure(figsize=(wide, high), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    rect = (0.0, bottom / high, 1.0, 1.0 - (top + bottom) / high)
    cast(ConstrainedLayoutEngine, figure.get_layout_engine()).set(rect=rect)
    texts: list[tuple[str, float, dict[str, Any]]] = [
        ("\n".join(titles), 1 - 0.08 / high, {"va": "top", "fontsize": 13,
                                             "fontweight": "bold"}),
        (subtitle, 1 - below / high, {"va": "top", "fontsize": 11, "color": GREY}),
        ("\n".join(lines), 0.06 / high, {"va": "bottom", "fontsize": 9,
                                         "color": "#444444"}),
    ]  # fmt: skip
    for text, y, how in texts:
        if text:
            text = text.replace("\u00a0", " ")
            figure.text(0.1 / wide, y, text, parse_math=False, **how)
    axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[panels:]:
        spare.remove()
    for axis in axes[:panels]:
        axis.grid(color="#E4E4E4", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[:panels]


def _wrapped(text: str, width: int) -> list[str]:
    """Return lines that keep "p = 1000", "4 bits" and "by-label" together."""
    text = re.sub(r" ([=<>]) ", "\u00a0\\1\u00a0", text)
    text = re.sub(r"(?<=\d) (?=[a-z%])", "\u00a0", text)
    return textwrap.wrap(text, width, break_on_hyphens=False)


def add_legend(figure: Figure, handles: Sequence[Any]) -> None:
    """Put a legend between the title and the plots."""
    wide, high = figure.get_size_inches()
    labels = [str(handle.get_label()) for handle in handles]
    above = figure.texts[:-1] if len(figure.texts) > 1 else figure.texts
    top = min(text.get_window_extent().y0 for text in above)
    legend = figure.legend(
        handles=list(handles), loc="upper left", ncols=legend_columns(labels, wide),
        frameon=False, fontsize=9.5, handlelength=3.0, columnspacing=1.4,
        borderaxespad=0,
        bbox_to_anchor=(0.1 / wide, top / figure.dpi / high - 0.02 / high),
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def legend_columns(labels: Sequence[str], width: float) -> int:
    """Return the fewest columns of the lowest legend that fits in `width` inches."""
    fitting = [
        columns
        for columns in range(1, len(labels) + 1)
        if sum(0.72 + 0.075 * max(map(len, part)) for part in _split(labels, columns))
        <= width
    ]
    rows = {columns: math.ceil(len(labels) / columns) for columns in fitting or [1]}
    return min(rows, key=lambda columns: (rows[columns], columns))


def _split(labels: Sequence[str], columns: int) -> list[Sequence[str]]:
    """Split the labels over the columns as a legend does, the first ones longer."""
    size, longer = divmod(len(labels), columns)
    ends = [place * size + min(place, longer) for place in range(columns + 1)]
    return [labels[start:end] for start, end in itertools.pairwise(ends)]


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG that depends on what it shows alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, format="png", metadata={"Software": None})
    return path
