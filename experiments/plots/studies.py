"""The figures of ``reproduce`` that are no curves of training."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
)

from .. import tables
from ..table import DISPLAY_NAMES
from .style import BLUE, GREY, RED, STYLES, add_legend, new_figure, save

Rows = Sequence[Mapping[str, Any]]
_TABLE1 = (
    ("per-worker", "server_vectors", "server: vectors, each h_m kept"),
    ("sum-only", "server_vectors", "server: vectors, only the sum kept"),
    ("per-worker", "worker_vectors_max", "vectors at a worker"),
    ("per-worker", "uploads_per_worker_round", "uploads per worker and round"),
)
_THEOREMS = (
    ("1", "Theorem 1: mean ‖∇L(θ^k)‖²", "rounds K"),
    ("2", "Theorem 2 (4 bits): mean ‖∇L(θ^k)‖²", "rounds K"),
    ("3", "Theorem 3: L(θ^K) − L*", "rounds K"),
    ("3 one-sided", "Theorem 3, one-sided problem", "rounds K"),
    ("lyapunov", "Lyapunov function V^k of (32)", "round k"),
)


def workers(
    title: str,
    caption: str,
    counts: Sequence[int],
    found: Mapping[str, tuple[str, Mapping[int, list[float | None]]]],
    path: Path,
) -> Path:
    """Plot uploads to a target against M, mean and range of the seeds.

    `found` has for each label the method, and for each M the uploads of each seed; an M
    where one seed missed the target is not shown.
    """
    figure, (axes,) = new_figure(title, caption, 1, list(found))
    reached = False
    for label, (method, uploads) in found.items():
        shown = {m: [float(y) for y in ys if y is not None]
                 for m, ys in uploads.items() if None not in ys}  # fmt: skip
        reached |= any(any(ys) for ys in uploads.values())
        style = STYLES[method]
        means = [tables.mean(ys) for ys in shown.values()]
        ends = zip(means, shown.values(), strict=True)
        ranges = np.array([(mean - min(ys), max(ys) - mean) for mean, ys in ends])
        axes.errorbar(
            list(shown), means, ranges.reshape(-1, 2).T,
            color=style.colour, marker=style.marker, markersize=style.size,
            linewidth=1.7, capsize=3,
            label=label if shown else f"{label}: not reached",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log" if reached else "linear")
    axes.set_xlim(counts[0] / 1.2, counts[-1] * 1.2)
    axes.set_xlabel("workers M (log scale)")
    axes.set_ylabel("uploads to the target (messages, log scale)")
    _plain_x(axes, counts)
    if reached:
        axes.yaxis.set_major_locator(LogLocator(10, (1, 2, 3, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    return _with_legend(figure, axes, path)


def _plain_x(axes: Axes, ticks: Sequence[int]) -> None:
    """Label a logarithmic x-axis at these numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))


def _with_legend(figure: Figure, axes: Axes, path: Path) -> Path:
    add_legend(figure, axes.get_legend_handles_labels()[0])
    return save(figure, path)


def table1(
    title: str, caption: str, options: Mapping[str, Any], rows: Rows, path: Path
) -> Path:
    """Plot vectors held, and uploads, against M, for the largest p."""
    size, methods = max(options["sizes"]), options["methods"]
    labels = [DISPLAY_NAMES[method] for method in methods]
    figure, axes = new_figure(title, caption, len(_TABLE1), labels, columns=2)
    for axis, (memory, column, label) in zip(axes, _TABLE1, strict=True):
        for position, method in enumerate(methods):
            key = {"method": method, "size": size, "server_memory": memory}
            found = [row for row in rows if key.items() <= row.items()]
            style = STYLES[method]
            axis.plot(
                [r["workers"] for r in found], [_most(r, column) for r in found],
                color=style.colour, marker=style.marker, label=DISPLAY_NAMES[method],
                linestyle="-" if position % 2 else (0, (4, 1.5)),
                linewidth=2.6 - 0.35 * position,
            )  # fmt: skip
        _plain_x(axis, options["workers"])
        axis.set(xlabel="workers M (log scale)", ylabel=label)
        axis.set_ylim(bottom=0)
    return _with_legend(figure, axes[0], path)


def _most(row: Mapping[str, Any], column: str) -> float:
    """Return a count; at the server with the most iterates that it ever held."""
    value: float = row[column]
    if column == "server_vectors":
        value += row["most_iterates"] - row["of_which_iterates"]
    return value


def theorems(
    title: str, caption: str, rounds: Sequence[int], rows: Rows, path: Path
) -> Path:
    """Plot what was measured beside the stated bounds: a panel for each theorem."""
    labels = [f"{DISPLAY_NAMES[m]}, c = 1/η²" for m in ("sgd", "wk1", "wk2", "ps")] * 2
    figure, axes = new_figure(title, caption, len(_THEOREMS), labels)
    for axis, (theorem, label, below) in zip(axes, _THEOREMS, strict=True):
        _theorem(axis, [row for row in rows if row["theorem"] == theorem])
        axis.set(xscale="log", yscale="log", ylabel="value (log scale)")
        axis.xaxis.set_minor_formatter(NullFormatter())
        if theorem in ("1", "2"):
            axis.xaxis.set_major_locator(FixedLocator(rounds))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
        axis.set_xlabel(f"{below} (log scale)")
        axis.set_title(label, fontsize=11)
    return _with_legend(figure, axes[0], path)


def _theorem(axes: Axes, rows: Rows) -> None:
    drawn = False
    for key in dict.fromkeys((row["method"], row["c"]) for row in rows):
        mine = [row for row in rows if (row["method"], row["c"]) == key]
        style, practical = STYLES[key[0]], key[1] == "practical"
        x = [row["K"] for row in mine]
        axes.plot(
            x, [row["measured"] for row in mine], color=style.colour,
            marker=style.marker, markersize=5, markevery=max(1, len(x) // 8),
            markerfacecolor="white" if practical else style.colour,
            linestyle=(0, (3, 1.5)) if practical else "-", linewidth=1.3,
            label=DISPLAY_NAMES[key[0]] + (", c = 1/η²" if practical else ""),
        )  # fmt: skip
        if key[0] == "wk2" and not drawn:
            stated = [row["stated"] for row in mine]
            axes.plot(x, stated, color="#777777", linestyle="--", label="stated bound")
            drawn = True


def lemmas(caption: str, rows: Rows, path: Path) -> Path:
    """Plot both sides of the appendix' Lemmas 1 to 3 at every local iteration."""
    title = "Sparse local SGD: Lemmas 1 to 3 at every local iteration"
    figure, axes = new_figure(title, caption, 3)
    first, second, third = axes

    def line(axis: Axes, y: Callable[[Any], float], shown: str, how: Any) -> None:
        kept = [row for row in rows if not shown or row[shown] > 0]
        axis.plot([r["iteration"] for r in kept], [y(r) for r in kept], **how)

    line(first, lambda r: r["rounding"], "",
         {"color": GREY, "label": "float32 rounding"})  # fmt: skip
    line(first, lambda r: r["memory_gap"] + 1e-18, "",
         {"color": BLUE, "label": "the rest, in float64"})  # fmt: skip
    first.axhline(1e-10, color=RED, ls="--", label="1e-10")
    first.set_title("Lemma 1: mean ŵ − w̃ − mean e")
    # not where all are at w
    line(second, lambda r: r["deviation"] / r["deviation_bound"], "deviation",
         {"color": BLUE, "marker": ".", "ms": 2, "ls": "",
          "label": "share of the bound"})  # fmt: skip
    second.set_title("Lemma 2: mean ‖ŵ − ŵₘ‖² / η²G²H²")
    line(third, lambda r: r["error"] / r["error_bound"], "error",
         {"color": BLUE, "label": "share of the bound, largest device"})  # fmt: skip
    third.set_title("Lemma 3: ‖eₘ‖² / 4δₘ²η²G²H²")
    for axis in axes[1:]:
        axis.axhline(1.0, color=RED, ls="--", label="bound")
    for axis in axes:
        axis.set(xlabel="local iteration t", yscale="log", ylabel="value (log scale)")
        axis.legend(frameon=False, fontsize=8)
    return save(figure, path)


def rate(caption: str, rows: Rows, slopes: Mapping[str, float], path: Path) -> Path:
    """Plot the appendix' Theorem 1: measured, its bound, and the bound's first term."""
    names = list(slopes)
    title = "Sparse local SGD: the bound of Theorem 1"
    figure, axes = new_figure(title, caption, len(names))
    for axis, name in zip(axes, names, strict=True):
        mine = [row for row in rows if row["task"] == name]
        text = f"measured, slope {slopes[name]:.2f}".replace("-", "−")
        lines: list[tuple[str, str, dict[str, Any]]] = [
            ("mean_squared_gradient", text, {"color": BLUE, "marker": "o"}),
            ("bound_term_1", "first term of the bound, slope −1/2",
             {"color": GREY, "ls": ":"}),
            ("bound", "bound (16), corrected", {"color": RED, "ls": "--"}),
        ]  # fmt: skip
        for column, label, how in lines:
            at = [row["T"] for row in mine]
            axis.plot(at, [row[column] for row in mine], label=label, **how)
        axis.set(title=name, xlabel="local iterations T (log scale)")
        axis.set(xscale="log", yscale="log")
        axis.legend(frameon=False)
    axes[0].set_ylabel("mean ‖∇F(ŵₘ)‖² (log scale)")
    return save(figure, path)
