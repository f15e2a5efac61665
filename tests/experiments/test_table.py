"""The table of a comparison, on made-up runs."""

import math
from io import StringIO

import pytest
from rich.console import Console

from experiments.table import (
    comparison_table,
    display_name,
    display_names,
)
from lasg_flwr.ledger import human_bytes

from .made_up_runs import Row, compared, everything, named, of


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


def test_codec_memory_and_local_steps_are_named_only_where_they_matter() -> None:
    assert display_name({"method": "pse"}) == "LASG-PSE"
    assert display_name({"method": "lag", "codec": "int8"}) == "LAG-WK + int8"
    runs = [{"method": "local-sgd", "local_steps": steps} for steps in (1, 5)]
    assert display_names(runs) == [
        "local SGD, 1 local step",
        "local SGD, 5 local steps",
    ]


def test_ratios_are_of_the_counts_up_to_the_target() -> None:
    summary = of().summary
    sgd, wk2 = summary["runs"][0], summary["runs"][3]
    row = cells(summary, 3)
    expected = sgd["uploads_to_target"] / wk2["uploads_to_target"]
    assert row[0] == "LASG-WK2"
    assert row[3] == f"{wk2['uploads_to_target']:,}"
    assert row[4] == f"{expected:.1f}x"
    assert row[5] == human_bytes(wk2["uplink_bytes_to_target"])
    assert row[6] == row[4]
    both = sgd["total_bytes_to_target"] / wk2["total_bytes_to_target"]
    assert row[7] == f"{both:.1f}x"
    assert row[8] == f"{wk2['uploads']:,}"
    assert cells(summary, 0)[4] == "1.0x"
    assert "*" not in render(summary)


def test_a_run_that_misses_the_target_says_so_and_its_ratio_is_of_whole_runs() -> None:
    summary = of("sgd", "wk2").summary
    sgd, wk2 = summary["runs"]
    wk2 |= dict.fromkeys(("uploads_to_target", "uplink_bytes_to_target"))
    row = cells(summary, 1)
    assert row[4] == f"{sgd['uploads'] / wk2['uploads']:.1f}x*"
    assert row[3].split() == row[5].split() == ["not", "reached"]
    assert row[6] == "-"
    assert "* over the whole runs" in render(summary)


def test_without_dense_sgd_there_are_no_ratios() -> None:
    summary = compared(named("sgd", codec="qsgd:bits=8"), named("wk2")).summary
    assert cells(summary, 1)[4] == cells(summary, 1)[6] == "-"
    assert "no dense SGD run" in render(summary)


def test_the_table_fits_in_100_columns() -> None:
    """Long names are wrapped and no number is cut off."""
    summary = {**everything().summary, "target_loss": 0.29}
    for run in summary["runs"]:
        run.update(downloads=1_000_000, gradient_evaluations=12_000_000, seconds=1234.5)
        run.update(uploads=1_000_000)
    text = render(summary)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "…" not in text
    for part in ("digits, dirichlet:0.1 partition, 10 workers, 1500 rounds", "0.29"):
        assert part in text
    assert text.count("12,000,000") == len(summary["runs"])


def test_one_run_alone_its_accuracy_unknown_makes_a_table() -> None:
    summary = of("ps").summary
    summary["runs"][0]["final_accuracy"] = None
    assert "LASG-PS" in render(summary)
    assert cells(summary, 0)[2] == "-"


def test_the_table_says_what_the_target_is() -> None:
    text = " ".join(render(of().summary).split())
    assert "target loss 0.35: given to target: up to the first evaluated" in text
    text = " ".join(render(of(target=None).summary).split())
    assert "1.02 x dense SGD's final loss" in text
    assert "no target loss" in render(of("wk2", target=None).summary)


def test_the_table_of_seeds_has_means_deviations_and_how_many_reached() -> None:
    runs = [named(method, seed=seed) for seed in (0, 1) for method in ("sgd", "wk2")]
    summary = compared(*runs).summary
    for run in summary["runs"][2:]:
        run["uploads"] += 20
    missed = ("uploads_to_target", "uplink_bytes_to_target")
    summary["runs"][3] |= dict.fromkeys(missed)
    sgd, wk2 = cells(summary, 0), cells(summary, 1)
    assert len(comparison_table(summary).rows) == 2
    assert sgd[8] == f"{summary['runs'][0]['uploads'] + 10:,}\n± 14"
    assert wk2[3].split()[:3] == ["1", "of", "2"]
    assert wk2[4].partition("x")[2].startswith("*")
    assert "2 seeds" in render(summary)
