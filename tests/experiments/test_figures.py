"""The figures of a comparison, on made-up runs."""

import itertools
import math
import struct
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from experiments.compare import Compared
from experiments.plots import comparison
from experiments.plots.comparison import COMPARISON, build_figure, plot_comparison
from experiments.plots.style import DPI, STYLES
from experiments.table import DISPLAY_NAMES

from .made_up_runs import BYTES, SIX, TARGET, compared, everything, named, of

PANELS = tuple(comparison.PANELS.values())
UPLOADS, UPLINK_BYTES, TOTAL_BYTES, ROUNDS, ACCURACY = PANELS


def figure_of(found: Compared, panels: Sequence[str] = PANELS) -> Figure:
    return build_figure(found.history, found.summary, panels)


def plot(found: Compared, out: Path) -> list[Path]:
    return plot_comparison(found.history, found.summary, out)


def png_size(path: Path) -> tuple[int, int]:
    """Return the width and the height that a PNG file states."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return int(width), int(height)


def legend_names(figure: Figure) -> list[str]:
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


def test_files_are_written_into_a_folder_made_for_them(tmp_path: Path) -> None:
    paths = plot(of(), tmp_path / "new" / "figures")
    assert [path.name for path in paths] == [
        "loss-uploads.png",
        "loss-uplink-bytes.png",
        "loss-total-bytes.png",
        "loss-rounds.png",
        "accuracy-rounds.png",
        "comparison.png",
    ]
    for path in paths:
        width, height = png_size(path)
        assert path.stat().st_size > 20_000
        assert width == round((8.6 if path.name == COMPARISON else 7.2) * DPI)
        assert 500 < height < width


def test_the_figures_need_none_of_pyplots_global_state() -> None:
    figure_of(of("sgd"))
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize("panels", [PANELS, *((panel,) for panel in PANELS)])
def test_the_one_legend_names_every_method_once(panels: Sequence[str]) -> None:
    figure = figure_of(of(*DISPLAY_NAMES), panels)
    names = [name.partition(" + ")[0] for name in legend_names(figure)]
    assert names == list(DISPLAY_NAMES.values())
    assert len(figure.axes) == len(panels)


def test_a_method_keeps_its_colour_in_all_plots_and_whatever_else_runs() -> None:
    every = curve_colours(figure_of(of()))
    assert every[0] == every[1] == every[2] == every[3]
    assert len(set(every[0].values())) == len(SIX)
    (only,) = curve_colours(figure_of(of("wk2"), (ROUNDS,)))
    assert only["LASG-WK2"] == every[0]["LASG-WK2"] == STYLES["wk2"].colour


def test_no_two_methods_share_a_colour_or_a_marker() -> None:
    assert set(STYLES) == set(DISPLAY_NAMES)
    assert len({style.colour for style in STYLES.values()}) == len(STYLES)
    assert len({style.marker for style in STYLES.values()}) == len(STYLES)


def test_codecs_share_the_colour_not_the_line_style() -> None:
    codecs = ("dense", "qsgd:bits=8", "topk:k=9")
    found = compared(*(named("wk2", codec=codec) for codec in codecs))
    figure = figure_of(found, (UPLINK_BYTES,))
    assert legend_names(figure) == [
        "LASG-WK2",
        "LASG-WK2 + qsgd:bits=8",
        "LASG-WK2 + topk:k=9",
    ]
    lines = [
        line for line in figure.axes[0].get_lines() if "LASG" in str(line.get_label())
    ]
    assert {line.get_color() for line in lines} == {STYLES["wk2"].colour}
    patterns = {str(line._unscaled_dash_pattern) for line in lines}  # type: ignore[attr-defined]
    assert len(patterns) == len(BYTES)


def test_ps_is_drawn_over_wk2_thinner_dashed_and_with_other_markers() -> None:
    ps, wk2 = figure_of(of("ps", "wk2"), (ROUNDS,)).axes[0].get_lines()[:2]
    assert ps.get_zorder() > wk2.get_zorder()
    assert ps.get_linewidth() < wk2.get_linewidth()
    assert (ps.get_linestyle(), wk2.get_linestyle()) == ("--", "-")
    assert ps.get_markevery() != wk2.get_markevery()


def test_axes_are_labelled_and_scaled() -> None:
    """Units are named; zero is dropped on log axes and kept on the linear one."""
    figure = figure_of(of("sgd"))
    uploads, size, total, rounds, accuracy = figure.axes
    assert uploads.get_ylabel().startswith("training loss")
    assert accuracy.get_ylabel().startswith("test accuracy")
    assert uploads.get_xlabel() == "uploads (messages) (log scale)"
    assert size.get_xlabel() == "uplink payload (bytes) (log scale)"
    assert total.get_xlabel() == "payload both ways (bytes) (log scale)"
    assert rounds.get_xlabel() == accuracy.get_xlabel() == "round"
    scales = [axes.get_xscale() for axes in figure.axes]
    assert scales == ["log", "log", "log", "linear", "linear"]
    assert [axes.get_yscale() for axes in figure.axes] == [*["log"] * 4, "logit"]
    starts = [np.asarray(axes.get_lines()[0].get_xdata())[0] for axes in figure.axes]
    assert all(start > 0 for start in starts[:3])
    assert starts[3] == starts[4] == 0


def test_texts_tell_the_setting() -> None:
    figure = figure_of(of(), (UPLOADS,))
    title, setting, caption = (text.get_text() for text in figure.texts)
    assert title == "Loss against uploads"
    assert setting == "digits, dirichlet:0.1 partition, 10 workers"
    for part in ("learning rate 0.1", "d_max 10", "c 0.6", "L2 weight 1e-5", "seed 1"):
        assert part in " ".join(caption.split("\n"))
    assert [text.get_text() for text in figure.axes[0].texts] == ["target\n0.35"]


def test_the_target_label_stands_beside_the_curves_and_only_at_losses() -> None:
    *losses, accuracy = figure_of(of()).axes
    for axes in losses:
        (label,) = axes.texts
        x, y = label.xy  # type: ignore[attr-defined]
        assert (x > 1, y) == (True, TARGET)
    assert not accuracy.texts


def test_seeds_make_one_curve_with_their_mean_and_range() -> None:
    found = compared(*(named("wk2", seed=seed) for seed in (0, 1)))
    rows = found.history[: len(found.history) // 2]
    twice = [{**row, "seed": 1, "loss": 2 * row["loss"]} for row in rows]
    (axes,) = build_figure([*rows, *twice], found.summary, (ROUNDS,)).axes
    line, _ = axes.get_lines()
    expected = [1.5 * row["loss"] for row in rows]
    np.testing.assert_allclose(np.asarray(line.get_ydata()), expected)
    (band,) = axes.collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    ends = min(row["loss"] for row in rows), max(row["loss"] for row in twice)
    assert (heights.min(), heights.max()) == pytest.approx(ends)


def test_everything_is_inside_the_figure() -> None:
    """No text runs over the edge, with the longest legend there is."""
    found = everything()
    flat = [{**row, "loss": 0.2 + 0.004 * row["loss"]} for row in found.history]
    both = (found, replace(found, history=flat))
    for panels, shown in itertools.product((PANELS, (UPLOADS,)), both):
        figure = figure_of(shown, panels)
        figure.canvas.draw()
        width, height = figure.bbox.size
        boxes = [text.get_window_extent() for text in figure.texts]
        boxes += [figure.legends[0].get_window_extent()]
        boxes += [box for axes in figure.axes if (box := axes.get_tightbbox())]
        assert len(boxes) == 4 + len(panels)
        for box in boxes:
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= width
            assert box.y1 <= height


def test_a_target_that_nobody_reaches_is_drawn_all_the_same(tmp_path: Path) -> None:
    found = of(target=0.01)
    assert all(run["uploads_to_target"] is None for run in found.summary["runs"])
    assert len(plot(found, tmp_path)) == 6
    low, _ = figure_of(found).axes[0].get_ylim()
    assert low < 0.01


def test_without_a_target_there_is_no_line(tmp_path: Path) -> None:
    found = of("wk2", target=None)
    assert not figure_of(found).axes[0].texts
    assert len(plot(found, tmp_path)) == 6


def test_a_single_run_and_a_single_evaluated_round_render(tmp_path: Path) -> None:
    whole = of("ps")
    for found in (whole, replace(whole, history=whole.history[:1])):
        assert all(png_size(path)[0] > 1000 for path in plot(found, tmp_path))
        assert legend_names(figure_of(found)) == ["LASG-PS"]


def test_a_diverging_run_does_not_flatten_the_others(tmp_path: Path) -> None:
    """Infinite losses are left out and huge ones cut off."""
    found = of("sgd", "wk1")
    for place, loss in enumerate((math.inf, math.nan, 1e30), 1):
        found.history[-place]["loss"] = loss
    assert figure_of(found).axes[0].get_ylim()[1] < 6
    plot(found, tmp_path)


def test_an_unknown_method_goes_by_its_own_name(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{**r, "method": "new_$x$"} for r in of("ps").history]
    found = replace(of("ps"), history=rows)
    assert legend_names(figure_of(found)) == ["new_$x$"]
    plot(found, tmp_path)


def test_an_empty_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="history is empty"):
        plot(replace(of("ps"), history=[]), tmp_path)
