"""The promise suite: what breaks a promise, and the command."""

from math import inf
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments import tables
from experiments.__main__ import app
from experiments.promise.suite import FULL, METHODS, QUICK, Cell, cells, planned
from experiments.promise.verdict import CONTROL, control, gaps, summary, verdicts

CELL = Cell("digits", "iid", 1, "constant")


def history(*rows: tuple[int, float, float, int]) -> list[dict[str, Any]]:
    names = ("round", "loss", "accuracy", "uploads")
    return [dict(zip(names, row, strict=True)) for row in rows]


PLAIN = {0: history((0, 2.0, 0.1, 0), (10, 1.0, 0.80, 100), (20, 0.5, 0.9, 200))}


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        ((10, 1.0, 0.80, 50), True),
        ((10, 1.019, 0.791, 50), True),
        ((10, 1.021, 0.80, 50), False),
        ((10, 1.0, 0.789, 50), False),
        ((10, 0.5, 0.99, 99), True),
    ],
)
def test_a_promise_is_a_point_and_two_percent(
    row: tuple[int, float, float, int], kept: bool
) -> None:
    found = gaps(PLAIN, {0: history((0, 2.0, 0.1, 0), row)})
    assert found[10].kept is kept
    assert found[10].saved == 100 / row[3]


def test_a_run_that_diverged_is_infinitely_behind() -> None:
    found = gaps(PLAIN, {0: history((0, 2.0, 0.1, 0), (10, 1.0, 0.8, 50))})
    assert found[10].kept
    assert found[20].loss == inf
    assert not found[20].kept
    assert 0 not in found


def test_seeds_are_compared_in_pairs() -> None:
    plain = {s: history((10, 1.0 + s, 0.8, 100)) for s in range(3)}
    lazy = {
        s: history((10, (1.0 + s) * f, 0.8, 50)) for s, f in enumerate((1, 3, 1.01))
    }
    assert gaps(plain, lazy)[10].loss == pytest.approx(1.01)
    assert control(plain) == {0: plain[1], 1: plain[2], 2: plain[0]}
    assert control(PLAIN) == {}


def test_the_table_counts_cells_and_names_what_is_broken() -> None:
    other = Cell("digits", "iid", 10, "cosine")
    results: dict[tuple[Cell, str], Any] = {
        (CELL, "sgd"): PLAIN,
        (CELL, "vr"): {0: history((10, 1.1, 0.7, 50), (20, 0.5, 0.9, 80))},
        (CELL, "pse"): {},
        (other, "local-sgd"): PLAIN,
        (other, "vr"): {0: history((10, 1.0, 0.8, 50), (20, 0.5, 0.9, 80))},
    }
    rows = verdicts(results)
    assert [(r["round"], r["kept"]) for r in rows] == [
        (10, 0),
        (20, 1),
        (10, 1),
        (20, 1),
    ]
    text = summary(rows)
    assert "| vr | 2 | 1 | 2.5 x (2.5 to 2.5) |" in text
    assert "| vr | round 10: 10.0 points behind, loss x 1.10 | 2.5 x |" in text
    assert "| digits iid H=10 cosine | 1 | vr | kept | 2.5 x |" in text
    assert "pse" not in text


def test_the_suite_is_what_it_says() -> None:
    numbers = {name: len(cells(name, part)) for name, part in FULL.items()}
    assert numbers == {"digits": 18, "mnist35": 18, "mnist": 4, "shakespeare": 4}
    runs = [run for _, _, run in planned(FULL, METHODS)]
    assert len(runs) == len(set(runs)) == 2 * 18 * 4 * 3 + 2 * 4 * 4 * 2
    assert {(run.rounds, run.evaluate_rounds) for run in runs} == {(300, 10), (60, 10)}
    assert {run.seed for run in runs[: len(runs) // 3]} == {0}
    assert {r.method for r in runs if r.local_steps == 1} == {"sgd", *METHODS}


def test_the_command(tmp_path: Path) -> None:
    """Stops where time is up, goes on, and finds the same again."""

    def promise(*options: str) -> Any:
        options = ("promise", "--quick", "--methods", "vr", *options)
        return CliRunner().invoke(app, [*options, "--out", str(tmp_path)])

    nothing = promise("--minutes", "0")
    assert nothing.exit_code == 2
    assert "give it more --minutes" in nothing.output
    done = promise()
    assert done.exit_code == 0, done.output
    names = ("runs.csv", "verdicts.csv", "promise.md")
    first = [(tmp_path / name).read_bytes() for name in names]
    again = promise("--minutes", "0")
    assert [(tmp_path / name).read_bytes() for name in names] == first
    assert again.output.startswith("| method | cells | kept |")
    rows = tables.read(tmp_path / "verdicts.csv")
    assert len(rows) == 8 * 3
    assert {row["method"] for row in rows} == {"vr"}
    assert CONTROL not in again.output  # one seed
    local = [row for row in rows if row["local_steps"] == "10"]
    assert all(int(row["kept"]) for row in local)
    assert all(float(row["uploads_saved"]) > 1 for row in local)
    assert len(cells("digits", QUICK["digits"])) == 8


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    options = ["promise", "--dataset", "covtype", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 2
    assert "'covtype': choose from digits, mnist35, mnist, shakespeare" in done.output
