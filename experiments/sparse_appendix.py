"""The appendix on sparse local SGD, measured: CSV files and plots of its claims."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lasg_flwr.growing import BatchSchedule

from .figures import DPI
from .reproduce import tables
from .reproduce.plot import new_figure
from .sparse_diagnostics import Iteration, SparseRun
from .sparse_rate import rate_problem, rate_rows, slope
from .tasks import Task

_LEMMAS = (
    "Digits by label, M = 10, softmax regression, H = 5, η = 0.1, k_m of 1, 2, 5 and "
    "10 % of the coordinates in turn, batches from 4 growing by 1.002, seed 0; G is "
    "the largest gradient norm seen. A share of 1 would be the bound itself."
)
_RATE = (
    "Logistic and sigmoid loss (non-convex) on 64 points that all 4 devices have, "
    "H = 4, k_m of 3, 5, 3 and 8 of 10 coordinates, batches from 2 growing by 1.01, "
    "η = θ√(M/T), mean of the seeds. Dashed: (16) with its second term as "
    "8ρθLσ²/((ρ−1) b₀ √M T^1.5)."
)
_BLUE, _RED, _GREY = "#0072B2", "#D55E00", "#666666"


def lemma_rows(task: Task, rounds: int = 100, seed: int = 0) -> list[Iteration]:
    """Run sparse local SGD on a task; return both sides of the lemmas at every t.

    H = 5, η = 0.1, k_m of 1 %, 2 %, 5 % and 10 % of the coordinates in turn, b^(0) = 4,
    ρ = 1.002.
    """
    run = SparseRun(
        task.oracles,
        np.zeros(task.size),
        steps=5,
        learning_rate=0.1,
        top_k=(0.01, 0.02, 0.05, 0.1),
        schedule=BatchSchedule(4, 1.002),
        seed=seed,
    )
    return [row for _ in range(rounds) for row in run.round()]


def write_lemmas(rows: Sequence[Iteration], out: Path) -> None:
    """Write ``lemmas.csv`` and ``lemmas.png`` into the folder `out`."""
    table = [asdict(row) for row in rows]
    tables.write(out / "lemmas.csv", table)
    figure, axes = new_figure(
        "Sparse local SGD: Lemmas 1 to 3 at every local iteration", _LEMMAS, 3, 0
    )
    t = [row.iteration for row in rows]
    first, second, third = axes
    first.plot(t, [r.rounding for r in rows], color=_GREY, label="float32 rounding")
    first.plot(t, [r.memory_gap + 1e-18 for r in rows], color=_BLUE,
               label="the rest, in float64")  # fmt: skip
    first.axhline(1e-10, color=_RED, ls="--", label="1e-10")
    first.set_title("Lemma 1: mean ŵ − w̃ − mean e")
    apart = [row for row in rows if row.deviation > 0]  # not where all are at w
    second.plot([r.iteration for r in apart],
                [r.deviation / r.deviation_bound for r in apart], ".", ms=2,
                color=_BLUE, label="share of the bound")  # fmt: skip
    second.set_title("Lemma 2: mean ‖ŵ − ŵₘ‖² / η²G²H²")
    kept = [row for row in rows if row.error > 0]
    third.plot([r.iteration for r in kept], [r.error / r.error_bound for r in kept],
               color=_BLUE, label="share of the bound, largest device")  # fmt: skip
    third.set_title("Lemma 3: ‖eₘ‖² / 4δₘ²η²G²H²")
    for axis in axes[1:]:
        axis.axhline(1.0, color=_RED, ls="--", label="bound")
    for axis in axes:
        axis.set(xlabel="local iteration t", yscale="log", ylabel="value (log scale)")
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(out / "lemmas.png", dpi=DPI, metadata={"Software": None})


def all_rates(horizons: Sequence[int], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return the rows of Theorem 1 for the convex and the non-convex task."""
    return [
        row
        for convex in (True, False)
        for row in rate_rows(rate_problem(convex), horizons, seeds=seeds)
    ]


def law_rows(
    lemmas: Sequence[Iteration], rates: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the worst case of each lemma, and of Theorem 1 its bound and its slope.

    The slope is that over the upper half of the horizons, where the first term rules.
    """
    rows = [
        ("Lemma 1", "digits", max(row.memory_gap for row in lemmas)),
        ("Lemma 2", "digits", max(r.deviation / r.deviation_bound for r in lemmas)),
        ("Lemma 3", "digits", max(r.error / r.error_bound for r in lemmas)),
    ]
    for name in dict.fromkeys(row["task"] for row in rates):
        mine = [row for row in rates if row["task"] == name]
        over = max(row["mean_squared_gradient"] / row["bound"] for row in mine)
        rows.append(("Theorem 1, bound", name, over))
        rows.append(("Theorem 1, slope", name, slope(mine[-(len(mine) // 2 + 1) :])))
    return [{"law": law, "problem": on, "value": value} for law, on, value in rows]


def write_rate(rows: Sequence[dict[str, Any]], out: Path) -> dict[str, float]:
    """Write ``rate.csv`` and ``rate.png`` into `out`; return the slope of each task."""
    tables.write(out / "rate.csv", rows)
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    title = "Sparse local SGD: the bound of Theorem 1"
    figure, axes = new_figure(title, _RATE, len(tasks), 0)
    slopes = {}
    for axis, name in zip(axes, tasks, strict=True):
        chosen = [row for row in rows if row["task"] == name]
        slopes[name] = slope(chosen)
        t = np.array([row["T"] for row in chosen], dtype=float)
        measured = [row["mean_squared_gradient"] for row in chosen]
        text = f"measured, slope {slopes[name]:.2f}".replace("-", "−")
        axis.plot(t, measured, "o-", color=_BLUE, label=text)
        axis.plot(t, [row["bound_term_1"] for row in chosen], color=_GREY, ls=":",
                  label="first term of the bound, slope −1/2")  # fmt: skip
        axis.plot(t, [row["bound"] for row in chosen], color=_RED, ls="--",
                  label="bound (16), corrected")  # fmt: skip
        axis.set(title=name, xlabel="local iterations T (log scale)")
        axis.set(xscale="log", yscale="log")
        axis.legend(frameon=False)
    axes[0].set_ylabel("mean ‖∇F(ŵₘ)‖² (log scale)")
    figure.savefig(out / "rate.png", dpi=DPI, metadata={"Software": None})
    return slopes
