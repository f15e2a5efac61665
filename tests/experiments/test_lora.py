"""The adapters' study, small and on made-up text."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

from experiments.lora import Size, oracles_of, study, vector

SMALL = Size(
    workers=2, rounds=6, local_steps=3, batch=4, rank=2, width=16, pretraining=5
)


def test_lazy_rules_end_where_plain_averaging_does() -> None:
    """Under AdamW and a cosine: within 3 % of the plain loss, with fewer uploads."""
    oracles = oracles_of("synthetic-shakespeare", SMALL, 0, None)
    start = vector(oracles[0].adapters)
    none, plain, *lazy = study(oracles, SMALL, ("sgd", "wk2:c=1", "vr:c=1"), 0)
    assert plain["uploads"] == 12
    assert plain["loss"] < none["loss"]
    for row in lazy:
        assert row["of_plain"] < 1.03
        assert 2 <= row["uploads"] < 12
    assert vector(oracles[0].adapters).tobytes() != start.tobytes()
    frozen = [p for p in oracles[0].model.parameters() if not p.requires_grad]
    assert len(frozen) > len(oracles[0].adapters) == 2 * 8  # A and B of eight layers


def test_the_learning_rate_falls_by_round() -> None:
    (oracle, _) = oracles_of("synthetic-shakespeare", SMALL, 0, None)
    theta, sizes = vector(oracle.adapters), []
    batch = oracle.draw(np.random.default_rng(0))
    for k in (0, 3, 5):
        oracle.start_round(k)
        sizes.append(float(np.abs(oracle.gradient(theta, batch)).max()))
    assert sizes[0] > sizes[1] > sizes[2] > 0
