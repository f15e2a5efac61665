"""The benchmark of scale: what it times runs, and its counts are what they say."""

import pytest

from experiments.benchmark_scale import (
    copies,
    engine_memory,
    engine_round,
    fedavg,
    grid_round,
    lasg,
    lazy_app,
    plain_app,
)

pytestmark = pytest.mark.flower


def test_parts_of_a_round_add_up() -> None:
    row = engine_round(5, 100, rounds=1)
    parts = [row[f"{name}_ms"] for name in ("open", "worker", "receive", "close")]
    assert row["ms"] == pytest.approx(sum(parts))
    assert min(parts) > 0


def test_a_server_of_sums_holds_less_than_one_of_every_gradient() -> None:
    held = [
        engine_memory(20, 5000, kind)["held_vectors"]
        for kind in ("per-worker", "sum-only")
    ]
    assert held[0] > 20 > held[1] > 2


@pytest.mark.parametrize(("codec", "most"), [("dense", 6), ("ecsq:error=0.3", 10)])
def test_an_upload_takes_few_copies_of_the_vector(codec: str, most: int) -> None:
    row = copies(codec)
    assert 1 < row["worker_vectors"] <= most
    assert 0 < row["server_vectors"] <= most


def test_rounds_through_the_grid_are_timed() -> None:
    assert grid_round(lasg, lazy_app(), 3, 10, rounds=2, failing=[1]) > 0
    assert grid_round(fedavg, plain_app(), 3, 10, rounds=2) > 0
