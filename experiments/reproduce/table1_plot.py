"""The plot of Table I: vectors held, and contacts, against the number of workers."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..figures import DPI, STYLES
from ..table import DISPLAY_NAMES
from .config import Study
from .plot import add_legend, caption_of, dress, new_figure
from .tables import Row

_PANELS = (
    ("per-worker", "server_vectors", "server: vectors, each h_m kept"),
    ("sum-only", "server_vectors", "server: vectors, only the sum kept"),
    ("per-worker", "worker_vectors_max", "vectors at a worker"),
    ("per-worker", "uploads_per_worker_round", "uploads per worker and round"),
)


def plot(study: Study, rows: Sequence[Row], path: Path) -> None:
    """Write the plot, for the largest p."""
    o = study.options
    size = max(o["sizes"])
    text = (
        f"{caption_of(study)} Synthetic logistic regression, p = {size}, {o['rounds']} "
        f"rounds, η = {o['learning_rate']}, D = {o['max_delay']}, d_max = "
        f"{o['d_max']}, c = 1/η². The paper: O(p) at the server but O(Mp) for PS and "
        "PSE; O(p) at a worker."
    )
    figure, axes = new_figure(
        f"{study.title}: memory and uploads", text, 4, 1, columns=2
    )
    for axis, (memory, column, label) in zip(axes, _PANELS, strict=True):
        for position, method in enumerate(o["methods"]):
            found = [r for r in rows if r["method"] == method and r["size"] == size]
            found = [r for r in found if r["server_memory"] == memory]
            style = STYLES[method]
            axis.plot(
                [r["workers"] for r in found],
                [_most(r, column) for r in found],
                color=style.colour,
                marker=style.marker,
                linestyle="-" if position % 2 else (0, (4, 1.5)),
                linewidth=2.6 - 0.35 * position,
                label=DISPLAY_NAMES[method],
            )
        dress(axis)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(o["workers"]))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
        axis.set_xlabel("workers M (log scale)")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
    add_legend(figure, axes[0], len(o["methods"]))
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def _most(row: Row, column: str) -> float:
    """Return a count; at the server with the most iterates that it ever held."""
    value: float = row[column]
    if column == "server_vectors":
        value += row["most_iterates"] - row["of_which_iterates"]
    return value
