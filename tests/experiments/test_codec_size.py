"""Sizes on gradients of real training: near the entropy, and never above a bound."""

from functools import cache
from math import lgamma, log

import numpy as np
import pytest

from experiments.tasks import Batch, build_task
from lasg_flwr.codecs import QSGD, TopK, wire
from lasg_flwr.codecs.coding import indices, levels
from lasg_flwr.codecs.coding.kernels import select
from lasg_flwr.vectors import F32
from tests.problems.codec_cases import needs_range_coder
from tests.problems.gradients import perceptron_gradients
from tests.problems.real_data import need_files

KEPT = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


@cache
def large() -> dict[str, F32]:
    """Return gradients of 100,000 coordinates or more."""
    found = perceptron_gradients()
    assert all(g.size >= 100_000 for g in found.values())
    return found


@cache
def small() -> list[F32]:
    """Return gradients of logistic regression on mnist35, 785 coordinates."""
    oracle = build_task("mnist35", 10, "by-label", Batch(fraction=0.01)).oracles[0]
    rng, theta, found = np.random.default_rng(0), np.zeros(785, np.float32), []
    for _ in range(50):
        gradient = oracle.gradient(theta, oracle.draw(rng))
        theta = theta - np.float32(0.1) * gradient
        found.append(gradient)
    return found


def order_0_bits(codes: np.ndarray) -> float:
    """Return the entropy of the codes' own histogram, in bits."""
    share = np.bincount(codes) / codes.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum() * codes.size)


def level_stream(codec: QSGD, x: F32) -> tuple[int, float]:
    """Return bits of the level stream in a payload, and the order-0 entropy."""
    body = codec.encode(x, np.random.default_rng(0))
    bucket = min(codec.bucket or x.size, x.size)
    norms = np.frombuffer(body, "<f4", -(-x.size // bucket))
    values = codec.decode(body, x.size).astype(np.float64)
    unit = np.repeat(norms.astype(np.float64) / codec.levels, bucket)[: x.size]
    ratio = np.divide(values, unit, out=np.zeros(x.size), where=unit > 0)
    codes = np.rint(ratio).astype(int) + codec.levels
    return 8 * (len(body) - 4 * norms.size), order_0_bits(codes)


@needs_range_coder
@pytest.mark.parametrize("bucket", [0, 512])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_range_coded_levels_are_near_their_entropy(bits: int, bucket: int) -> None:
    codec = QSGD(bits=bits, bucket=bucket, entropy="range")
    for name, x in large().items():
        coded, entropy = level_stream(codec, x)
        assert coded <= 1.10 * entropy, name


@pytest.mark.parametrize("bucket", [0, 512])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_zstandard_levels_are_within_twice_their_entropy(
    bits: int, bucket: int
) -> None:
    for name, x in large().items():
        coded, entropy = level_stream(QSGD(bits=bits, bucket=bucket), x)
        assert coded <= 2.0 * entropy, name


def _log2_binomial(p: int, k: int) -> float:
    return (lgamma(p + 1) - lgamma(k + 1) - lgamma(p - k + 1)) / log(2)


@pytest.mark.parametrize("fraction", KEPT)
def test_index_sets_are_near_the_logarithm_of_their_number(fraction: float) -> None:
    rng = np.random.default_rng(0)
    for name, x in large().items():
        k = TopK(fraction=fraction).kept(x.size)
        bound = 1.05 * _log2_binomial(x.size, k)
        real = select(x, k)
        drawn = np.sort(rng.choice(x.size, k, replace=False))
        assert 8 * len(indices.encode(real)) <= bound, name
        assert 8 * len(indices.encode(drawn)) <= bound, "random"


@pytest.mark.parametrize("entropy", ["zstd", "raw"])
@pytest.mark.parametrize("bucket", [512, 1000, 4096, 0])
def test_four_bits_never_take_more_than_4_1(bucket: int, entropy: str) -> None:
    """Also where nothing can be compressed: levels that are equally likely."""
    rng = np.random.default_rng(0)
    inputs = {
        "uniform": rng.uniform(-1, 1, 100_000).astype(np.float32),
        "normal": rng.standard_normal(100_000).astype(np.float32),
        **large(),
    }
    codec = QSGD(bits=4, bucket=bucket, entropy=entropy)
    for name, x in inputs.items():
        payload = wire.encode(codec, x, rng)
        assert 8 * len(payload) <= 4.1 * x.size, name


@pytest.mark.parametrize("bucket", [512, 0])
def test_overhead_of_785_coordinates_is_at_most_32_bytes(bucket: int) -> None:
    need_files("mnist35")
    rng = np.random.default_rng(0)
    codec = QSGD(bits=4, bucket=bucket)
    inputs = [*small(), rng.uniform(-1, 1, 785).astype(np.float32)]
    for x in inputs:
        assert x.size == 785
        assert len(wire.encode(codec, x, rng)) <= 4.1 / 8 * 785 + 32


def test_codes_fit_the_bits_that_were_asked_for() -> None:
    for bits in range(2, 17):
        assert 2 * QSGD(bits=bits).levels < 1 << bits
        assert levels.packed_bytes(785, bits) == -(-785 * bits // 8)
