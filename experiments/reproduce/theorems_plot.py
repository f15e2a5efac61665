"""The plot of the theorems: measured marks beside the stated bounds."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from ..figures import DPI, STYLES
from ..table import DISPLAY_NAMES
from .config import Study
from .plot import add_legend, caption_of, dress, new_figure
from .tables import Row

_PANELS = (
    ("1", "Theorem 1: mean ‖∇L(θ^k)‖²", "rounds K"),
    ("2", "Theorem 2 (4 bits): mean ‖∇L(θ^k)‖²", "rounds K"),
    ("3", "Theorem 3: L(θ^K) − L*", "rounds K"),
    ("3 one-sided", "Theorem 3, one-sided problem", "rounds K"),
    ("lyapunov", "Lyapunov function V^k of (32)", "round k"),
)


def plot(
    study: Study, rates: Sequence[Row], descent: Sequence[Row], path: Path
) -> None:
    """Write the plot: one panel for each theorem, and the Lyapunov function."""
    figure, axes = new_figure(
        f"{study.title}: measured and stated",
        f"{caption_of(study)} D = {study.options['max_delay']}, batch "
        f"{study.options['batch']}, mean of {study.seeds} seeds.",
        len(_PANELS),
        2,
    )
    rows = [*rates, *descent]
    for axis, (theorem, label, below) in zip(axes, _PANELS, strict=True):
        _draw(axis, [row for row in rows if row["theorem"] == theorem])
        dress(axis)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())
        if theorem in ("1", "2"):
            axis.xaxis.set_major_locator(FixedLocator(study.options["rounds"]))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
        axis.set_xlabel(f"{below} (log scale)")
        axis.set_title(label, fontsize=11)
        axis.set_ylabel("value (log scale)")
    add_legend(figure, axes[0], 4)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    drawn = False
    for key in dict.fromkeys((row["method"], row["c"]) for row in rows):
        mine = [row for row in rows if (row["method"], row["c"]) == key]
        style, practical = STYLES[key[0]], key[1] == "practical"
        x = [row["K"] for row in mine]
        axes.plot(
            x,
            [row["measured"] for row in mine],
            color=style.colour,
            marker=style.marker,
            markersize=5,
            markevery=max(1, len(x) // 8),
            markerfacecolor="white" if practical else style.colour,
            linestyle=(0, (3, 1.5)) if practical else "-",
            linewidth=1.3,
            label=DISPLAY_NAMES[key[0]] + (", c = 1/η²" if practical else ""),
        )
        if key[0] == "wk2" and not drawn:
            stated = [row["stated"] for row in mine]
            axes.plot(x, stated, color="#777777", linestyle="--", label="stated bound")
            drawn = True
