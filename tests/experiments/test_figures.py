"""Tests of the figures and the table of a comparison, on made-up runs."""

from __future__ import annotations

import itertools
import math
import struct
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from rich.console import Console

from experiments.plots import comparison
from experiments.plots.comparison import COMPARISON, build_figure, plot_comparison
from experiments.plots.style import DPI, STYLES
from experiments.table import (
    DISPLAY_NAMES,
    comparison_table,
    display_name,
    display_names,
    human_bytes,
)

Row = dict[str, Any]
PANELS = tuple(comparison.PANELS.values())
UPLOADS, UPLINK_BYTES, ROUNDS, ACCURACY = PANELS

WORKERS = 10
ROUND_COUNT = 1500
EVERY = 25
TARGET = 0.35
SIX = ("sgd", "lag", "wk1", "wk2", "ps", "pse")

# method: share of uploads per round, final loss, gradients per worker and round
BEHAVIOUR = {
    "sgd": (1.0, 0.272, 1),
    "lag": (0.78, 0.276, 1),
    "wk1": (0.34, 0.281, 2),
    "wk2": (0.093, 0.279, 2),
    "ps": (0.088, 0.280, 1),
    "pse": (0.15, 0.275, 1),
    "local-sgd": (0.1, 0.29, 1),
    "fedprox": (0.1, 0.3, 1),
    "sparse-local-sgd": (0.1, 0.33, 1),
}
BYTES = {"dense": 31_400, "int8": 7_866, "topk": 2_520}


def make_run(
    method: str, codec: str = "dense", memory: str = "innovation", local_steps: int = 1
) -> list[Row]:
    """Return the history of one plausible run."""
    share, floor, gradients = BEHAVIOUR[method]
    # WK2 and PS share a seed: their curves nearly coincide, as they do in truth
    seed = [0 if method in ("wk2", "ps") else SIX.index("sgd") + len(method), 7]
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(0, ROUND_COUNT + 1, EVERY):
        decay = 0.5 * math.exp(-number / 40) + 0.5 * math.exp(-number / 260)
        loss = floor + (math.log(10) - floor) * decay
        noise = 1 + 0.015 * rng.standard_normal() * bool(number)
        uploads = round(WORKERS * min(number, 3 + share * max(number - 3, 0)))
        rows.append(
            {
                "method": method,
                "codec": codec,
                "memory": memory,
                "local_steps": local_steps,
                "round": number,
                "loss": loss * noise,
                "accuracy": 0.1 + 0.82 * (1 - decay),
                "uploads": uploads,
                "downloads": number * WORKERS,
                "uplink_bytes": uploads * BYTES[codec],
                "downlink_bytes": number * WORKERS * BYTES["dense"],
                "gradient_evaluations": number * WORKERS * gradients,
            }
        )
    return rows


def make_history(methods: Sequence[str] = SIX) -> list[Row]:
    """Return the history of one dense run per method."""
    return [row for method in methods for row in make_run(method)]


def summarise(history: Sequence[Row], target: float = TARGET) -> Row:
    """Return the summary that goes with a history."""
    runs: dict[tuple[Any, ...], list[Row]] = {}
    keys = ("method", "codec", "memory", "local_steps")
    for row in history:
        runs.setdefault(tuple(row[key] for key in keys), []).append(row)
    return {
        "dataset": "digits",
        "partition": "dirichlet(0.1)",
        "workers": WORKERS,
        "rounds": ROUND_COUNT,
        "seed": 1,
        "target_loss": target,
        "parameters": {
            "learning_rate": 0.1,
            "batch": 32,
            "max_delay": 50,
            "d_max": 10,
            "c": 0.6,
            "l2": 1e-5,
        },
        "runs": [summarise_run(rows, target) for rows in runs.values()],
    }


def summarise_run(rows: Sequence[Row], target: float) -> Row:
    """Return the summary of one run."""
    last = rows[-1]
    reached = next((row for row in rows if row["loss"] <= target), None)
    return {
        **{key: last[key] for key in last if key not in ("loss", "accuracy", "round")},
        "final_loss": last["loss"],
        "final_accuracy": last["accuracy"],
        "rounds_to_target": reached and reached["round"],
        "uploads_to_target": reached and reached["uploads"],
        "uplink_bytes_to_target": reached and reached["uplink_bytes"],
        "seconds": 12.34,
    }


def png_size(path: Path) -> tuple[int, int]:
    """Return the width and the height that a PNG file states."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return int(width), int(height)


def legend_names(figure: Figure) -> list[str]:
    """Return the entries of a figure's only legend."""
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def curve_colours(figure: Figure) -> list[dict[str, str]]:
    """Return the colour of each named curve, plot by plot."""
    return [
        {
            str(line.get_label()): to_hex(line.get_color()).upper()
            for line in axes.get_lines()
            if not str(line.get_label()).startswith("_")
        }
        for axes in figure.axes
    ]


def render(summary: Row, width: int = 100) -> str:
    """Return the table as a terminal of the given width shows it."""
    stream = StringIO()
    Console(file=stream, width=width, color_system=None).print(
        comparison_table(summary)
    )
    return stream.getvalue()


def cells(summary: Row, method: int) -> list[str]:
    """Return the cells of one row of the table."""
    table = comparison_table(summary)
    return [list(column.cells)[method] for column in table.columns]  # type: ignore[misc]


def test_files_are_written(tmp_path: Path) -> None:
    """All files are PNGs of the expected size, in a folder made for them."""
    history = make_history()
    paths = plot_comparison(history, summarise(history), tmp_path / "new" / "figures")
    assert [path.name for path in paths] == [
        "loss-uploads.png",
        "loss-uplink-bytes.png",
        "loss-rounds.png",
        "accuracy-rounds.png",
        "comparison.png",
    ]
    for path in paths:
        width, height = png_size(path)
        assert path.stat().st_size > 20_000
        assert width == round((8.6 if path.name == COMPARISON else 7.2) * DPI)
        assert 500 < height < width


def test_no_pyplot() -> None:
    """The figures need none of pyplot's global state."""
    history = make_history(("sgd",))
    build_figure(history, summarise(history))
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize("panels", [PANELS, *((panel,) for panel in PANELS)])
def test_legend_names_every_method(panels: Sequence[Any]) -> None:
    """The one legend has each method once, by its display name."""
    history = make_history(tuple(DISPLAY_NAMES))
    figure = build_figure(history, summarise(history), panels)
    assert legend_names(figure) == list(DISPLAY_NAMES.values())
    assert len(figure.axes) == len(panels)


def test_colours_are_stable() -> None:
    """A method keeps its colour in all plots and whatever else is compared."""
    history = make_history()
    every = curve_colours(build_figure(history, summarise(history)))
    assert every[0] == every[1] == every[2] == every[3]
    assert len(set(every[0].values())) == len(SIX)
    alone = make_history(("wk2",))
    (only,) = curve_colours(build_figure(alone, summarise(alone), (ROUNDS,)))
    assert only["LASG-WK2"] == every[0]["LASG-WK2"] == STYLES["wk2"].colour


def test_methods_differ_without_colour() -> None:
    """No two methods share a colour or a marker."""
    assert set(STYLES) == set(DISPLAY_NAMES)
    assert len({style.colour for style in STYLES.values()}) == len(STYLES)
    assert len({style.marker for style in STYLES.values()}) == len(STYLES)


def test_codecs_share_the_colour_not_the_line_style() -> None:
    """Runs of a method with several codecs differ in line style only."""
    history = [row for codec in BYTES for row in make_run("wk2", codec)]
    figure = build_figure(history, summarise(history), (UPLINK_BYTES,))
    assert legend_names(figure) == ["LASG-WK2", "LASG-WK2 + int8", "LASG-WK2 + topk"]
    lines = [
        line for line in figure.axes[0].get_lines() if "LASG" in str(line.get_label())
    ]
    assert {line.get_color() for line in lines} == {STYLES["wk2"].colour}
    patterns = {str(line._unscaled_dash_pattern) for line in lines}  # type: ignore[attr-defined]
    assert len(patterns) == len(BYTES)


def test_overlapping_curves_show() -> None:
    """PS is drawn over WK2, thinner and dashed, its markers elsewhere."""
    history = make_history(("ps", "wk2"))
    figure = build_figure(history, summarise(history), (ROUNDS,))
    ps, wk2 = figure.axes[0].get_lines()[:2]
    assert ps.get_zorder() > wk2.get_zorder()
    assert ps.get_linewidth() < wk2.get_linewidth()
    assert (ps.get_linestyle(), wk2.get_linestyle()) == ("--", "-")
    assert ps.get_markevery() != wk2.get_markevery()


def test_axes_are_labelled_and_scaled() -> None:
    """Units are named; zero is dropped on log axes and kept on the linear one."""
    history = make_history(("sgd",))
    figure = build_figure(history, summarise(history))
    uploads, size, rounds, accuracy = figure.axes
    assert uploads.get_ylabel().startswith("training loss")
    assert accuracy.get_ylabel().startswith("test accuracy")
    assert uploads.get_xlabel() == "uploads (messages) (log scale)"
    assert size.get_xlabel() == "uplink payload (bytes) (log scale)"
    assert rounds.get_xlabel() == accuracy.get_xlabel() == "round"
    scales = [axes.get_xscale() for axes in figure.axes]
    assert scales == ["log", "log", "linear", "linear"]
    assert [axes.get_yscale() for axes in figure.axes] == [*["log"] * 3, "logit"]
    starts = [np.asarray(axes.get_lines()[0].get_xdata())[0] for axes in figure.axes]
    assert starts[0] > 0
    assert starts[1] > 0
    assert starts[2] == starts[3] == 0


def test_texts_tell_the_setting() -> None:
    """The title, the caption and the target's label are all there."""
    history = make_history()
    figure = build_figure(history, summarise(history), (UPLOADS,))
    title, setting, caption = (text.get_text() for text in figure.texts)
    assert title == "Loss against uploads"
    assert setting == "digits, dirichlet(0.1) partition, 10 workers"
    for part in ("learning rate 0.1", "d_max 10", "c 0.6", "L2 weight 1e-5", "seed 1"):
        assert part in " ".join(caption.split("\n"))
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels == ["target\n0.35"]


def test_the_target_label_stands_beside_the_curves_and_only_at_losses() -> None:
    history = make_history()
    *losses, accuracy = build_figure(history, summarise(history)).axes
    for axes in losses:
        (label,) = axes.texts
        assert label.get_position()[1] == TARGET or label.xy[1] == TARGET  # type: ignore[attr-defined]
        assert label.xy[0] > 1  # type: ignore[attr-defined]
    assert not accuracy.texts


def test_seeds_make_one_curve_with_their_mean_and_range() -> None:
    seeds = [[{**r, "seed": s, "loss": r["loss"] * (1 + s)} for r in make_run("wk2")]
             for s in (0, 1)]  # fmt: skip
    history = [row for rows in seeds for row in rows]
    (axes,) = build_figure(history, {**summarise(history), "seeds": 2}, (ROUNDS,)).axes
    (line, _) = axes.get_lines()
    expected = [1.5 * row["loss"] for row in seeds[0]]
    np.testing.assert_allclose(np.asarray(line.get_ydata()), expected)
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]  # type: ignore[index]
    ends = min(r["loss"] for r in seeds[0]), max(r["loss"] for r in seeds[1])
    assert (heights.min(), heights.max()) == pytest.approx(ends)


def test_everything_is_inside_the_figure() -> None:
    """No text runs over the edge, with the longest legend there is."""
    history = make_history(tuple(DISPLAY_NAMES))
    history += make_run("wk2", "int8", "gradient") + make_run(
        "sparse-local-sgd", "topk"
    )
    flat = [{**row, "loss": 0.2 + 0.004 * row["loss"]} for row in history]
    for panels, rows in itertools.product((PANELS, (UPLOADS,)), (history, flat)):
        figure = build_figure(rows, summarise(rows), panels)
        figure.canvas.draw()
        width, height = figure.bbox.size
        boxes = [text.get_window_extent() for text in figure.texts]
        boxes += [figure.legends[0].get_window_extent()]
        boxes += [box for axes in figure.axes if (box := axes.get_tightbbox())]
        boxes += [text.get_window_extent() for a in figure.axes for text in a.texts]
        assert len(boxes) >= 4 + len(panels)
        for box in boxes:
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= width
            assert box.y1 <= height


def test_unreached_target_renders(tmp_path: Path) -> None:
    """Runs that miss the target are plotted, the target line included."""
    history = make_history()
    summary = summarise(history, target=0.01)
    assert all(run["uploads_to_target"] is None for run in summary["runs"])
    assert len(plot_comparison(history, summary, tmp_path)) == 5
    low, _ = build_figure(history, summary).axes[0].get_ylim()
    assert low < 0.01


def test_no_target_renders(tmp_path: Path) -> None:
    """Without a target there is no target line."""
    history = make_history()
    summary = {**summarise(history), "target_loss": None}
    assert not build_figure(history, summary).axes[0].texts
    assert len(plot_comparison(history, summary, tmp_path)) == 5
    assert "no target loss" in render(summary)


def test_one_run_renders(tmp_path: Path) -> None:
    """A single run, and even a single evaluated round, can be plotted."""
    for history in (make_run("ps"), make_run("ps")[:1]):
        paths = plot_comparison(history, summarise(history), tmp_path)
        assert all(png_size(path)[0] > 1000 for path in paths)
        assert legend_names(build_figure(history, summarise(history))) == ["LASG-PS"]


def test_diverging_run_does_not_flatten_the_others(tmp_path: Path) -> None:
    """Infinite losses are left out and huge ones cut off."""
    history = make_history(("sgd", "wk1"))
    history[-1]["loss"], history[-2]["loss"] = math.inf, math.nan
    history[-3]["loss"] = 1e30
    figure = build_figure(history, summarise(history))
    assert figure.axes[0].get_ylim()[1] < 6
    plot_comparison(history, summarise(history), tmp_path)


def test_unknown_method_renders(tmp_path: Path) -> None:
    """A method without a style of its own goes by its own name."""
    history = [{**row, "method": "new_$x$"} for row in make_run("ps")]
    assert legend_names(build_figure(history, summarise(history))) == ["new_$x$"]
    plot_comparison(history, summarise(history), tmp_path)


def test_empty_history_is_refused(tmp_path: Path) -> None:
    """Nothing to plot is an error that says so."""
    with pytest.raises(ValueError, match="history is empty"):
        plot_comparison([], summarise([]), tmp_path)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (10_000, "10.0 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (470_000_000, "470 MB"),
        (2.5e9, "2.50 GB"),
        (5e16, "50000 TB"),
    ],
)
def test_human_bytes(count: float, text: str) -> None:
    """Three digits, and the unit that leaves fewer than a thousand."""
    assert human_bytes(count) == text


@pytest.mark.parametrize("count", [-1, math.nan, math.inf])
def test_human_bytes_refuses(count: float) -> None:
    """A negative or infinite number of bytes is an error."""
    with pytest.raises(ValueError, match="number of bytes"):
        human_bytes(count)


def test_display_names() -> None:
    """Codec, memory and local steps are named only where they matter."""
    assert display_name({"method": "pse"}) == "LASG-PSE"
    assert display_name({"method": "lag", "codec": "int8"}) == "LAG-WK + int8"
    runs = [make_run("local-sgd", local_steps=steps)[0] for steps in (1, 5)]
    assert display_names(runs) == [
        "local SGD, 1 local step",
        "local SGD, 5 local steps",
    ]


def test_table_ratios_to_target() -> None:
    """Ratios are of the counts up to the target where both runs reached it."""
    history = make_history()
    summary = summarise(history)
    sgd, wk2 = summary["runs"][0], summary["runs"][3]
    row = cells(summary, 3)
    expected = sgd["uploads_to_target"] / wk2["uploads_to_target"]
    assert row[0] == "LASG-WK2"
    assert row[3] == f"{wk2['uploads_to_target']:,}"
    assert row[4] == f"{expected:.1f}x"
    assert row[5] == human_bytes(wk2["uplink_bytes_to_target"])
    assert row[6] == row[4]
    assert row[7] == f"{wk2['uploads']:,}"
    assert cells(summary, 0)[4] == "1.0x"
    assert "*" not in render(summary)


def test_table_marks_targets_not_reached() -> None:
    """A run that misses the target says so, its ratio is of the whole runs."""
    history = make_history(("sgd", "wk2"))
    summary = summarise(history)
    summary["runs"][1].update(
        rounds_to_target=None, uploads_to_target=None, uplink_bytes_to_target=None
    )
    row = cells(summary, 1)
    sgd, wk2 = summary["runs"]
    assert row[4] == f"{sgd['uploads'] / wk2['uploads']:.1f}x*"
    assert row[3].split() == row[5].split() == ["not", "reached"]
    assert row[6] == "-"
    assert "* over the whole runs" in render(summary)


def test_table_without_dense_sgd() -> None:
    """Without the dense SGD run there are no ratios."""
    history = [*make_run("sgd", "int8"), *make_run("wk2")]
    summary = summarise(history)
    assert cells(summary, 1)[4] == cells(summary, 1)[6] == "-"
    assert "no dense SGD run" in render(summary)


def test_table_fits_in_100_columns() -> None:
    """Long names are wrapped and no number is cut off."""
    history = make_history(tuple(DISPLAY_NAMES))
    history += make_run("wk2", "int8", "gradient") + make_run(
        "sparse-local-sgd", "topk"
    )
    summary = summarise(history, target=0.29)
    for run in summary["runs"]:
        run.update(downloads=1_000_000, gradient_evaluations=12_000_000, seconds=1234.5)
        run.update(uploads=1_000_000)
    text = render(summary)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "…" not in text
    for part in ("digits, dirichlet(0.1) partition, 10 workers, 1500 rounds", "0.29"):
        assert part in text
    assert text.count("12,000,000") == len(summary["runs"])


def test_table_of_one_run() -> None:
    """One run alone, its accuracy unknown, makes a table."""
    summary = summarise(make_run("ps"))
    summary["runs"][0]["final_accuracy"] = None
    assert "LASG-PS" in render(summary)
    assert cells(summary, 0)[2] == "-"


def test_table_says_what_the_target_is() -> None:
    summary = summarise(make_history())
    text = " ".join(render({**summary, "target_is": "given"}).split())
    assert "target loss 0.35: given; to target: up to the first evaluated" in text


def test_table_of_seeds_has_means_deviations_and_how_many_reached() -> None:
    runs = summarise(make_history(("sgd", "wk2")))["runs"]
    other = [{**run, "seed": 1, "uploads": run["uploads"] + 20} for run in runs]
    other[1] |= dict.fromkeys(("uploads_to_target", "uplink_bytes_to_target"))
    summary = summarise(make_history())
    summary |= {"seeds": 2, "runs": [*({**run, "seed": 0} for run in runs), *other]}
    sgd, wk2 = cells(summary, 0), cells(summary, 1)
    assert len(comparison_table(summary).rows) == 2
    assert sgd[7] == f"{runs[0]['uploads'] + 10:,}\n± 14"
    assert wk2[3].split()[:3] == ["1", "of", "2"]
    assert wk2[4].partition("x")[2].startswith("*")
    assert "2 seeds" in render(summary)
