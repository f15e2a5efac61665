"""The benchmark of rates: its peers and its entropies are what theory says."""

import json
from math import pi
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments import benchmark_rate, rate_vectors
from experiments.benchmark_rate import (
    best_dead_zone,
    by_tensor,
    measured,
    rotated_signs,
    savings,
)
from experiments.benchmarks import app
from experiments.rate_vectors import Sample
from lasg_flwr.vectors import F32


def _laplace(size: int) -> F32:
    return np.random.default_rng(0).laplace(size=size).astype(np.float32)


def test_one_bit_after_a_rotation_loses_what_drive_says() -> None:
    """1 − 2/π of any vector, as rotated coordinates are about normal."""
    spike = np.zeros(4_096, np.float32)
    spike[:40] = 1
    for x in (_laplace(4_096), spike, _laplace(3_000)):
        bits, y = rotated_signs(x, np.random.default_rng(1))
        padded = 4_096 / x.size
        assert bits == pytest.approx(padded + 96 / x.size)
        error = float(np.sum((y - x) ** 2) / np.sum(x.astype(np.float64) ** 2))
        assert error <= (1 - 2 / pi) * 1.06


def test_the_order_0_curve_lies_above_the_bound_and_falls() -> None:
    x = np.random.default_rng(0).standard_normal(4_000, np.float32)
    errors = (0.05, 0.2, 0.5)
    bits = [best_dead_zone(x, e) for e in errors]
    assert bits == sorted(bits, reverse=True)
    for e, b in zip(errors, bits, strict=True):
        bound = -np.log2(e) / 2
        # a quarter of a bit at high rates is what a uniform quantizer loses
        assert bound < b < bound + 0.27


def test_rows_are_real_bytes_and_errors() -> None:
    x = _laplace(3_000)
    rows = measured("laplace", x)
    assert len({row["codec"] for row in rows}) == len(rows) > 20
    for row in rows:
        codec, _, error = row["codec"].partition(":error=")
        if codec == "ecsq":
            assert row["error"] <= float(error)
    beside = savings(x, rows)
    assert {"topk:fraction=0.05", "eden, 1 bit"} <= {row["codec"] for row in beside}
    best = [row for row in beside if row["best"]]
    assert best
    assert all(row["ratio"] < 1 for row in best)


def test_one_step_for_all_tensors_is_better_at_equal_bytes() -> None:
    scales = np.repeat(np.array([0.1, 1, 3], np.float32), 4_000)
    sample = Sample(_laplace(12_000) * scales, (4_000,) * 3)
    row = by_tensor("layers", sample, 0.2)
    assert row["bytes_by_tensor"] <= row["bytes"]
    assert row["one_step_error"] < 0.8 * row["by_tensor_error"]


def test_the_command_writes_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        "a update": Sample(_laplace(900), (500, 400)),
        "b update": Sample(_laplace(1_100), (1_100,)),
    }
    monkeypatch.setattr(benchmark_rate, "CURVE", (0.3,))
    monkeypatch.setitem(rate_vectors.SOURCES, "made", lambda data_dir: made)
    out = tmp_path / "rate.json"
    done = CliRunner().invoke(app, ["rate", "--source", "made", "--json", str(out)])
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert [v["coordinates"] for v in found["vectors"]] == [900, 1_100]
    assert {r["vector"] for r in found["rows"]} == set(made)
    assert [r["vector"] for r in found["layers"]] == ["a update"] * 3
    assert out.with_suffix(".png").stat().st_size > 10_000
    bad = CliRunner().invoke(app, ["rate", "--source", "none"])
    assert bad.exit_code == 2
