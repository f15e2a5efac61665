"""ECSQ keeps its error for every vector, and takes few bits for it."""

import numpy as np
import pytest

from lasg_flwr.codecs import ECSQ, codec_from, wire
from lasg_flwr.codecs.coding import backend, magnitudes
from lasg_flwr.codecs.coding.bodies import DENSE, LEVELS, SPARSE
from lasg_flwr.errors import WireError
from lasg_flwr.vectors import F32
from tests.problems.codec_cases import edge_vectors, vectors

ERRORS = (0.9, 0.5, 0.3, 0.1, 1e-2, 1e-4, 1e-9)
KIND = wire.HEADER_BYTES


def _coded(codec: ECSQ, x: F32) -> tuple[bytes, F32, float]:
    """Return the payload, what it decodes to, and ‖C(x) − x‖²/‖x‖²."""
    payload = wire.encode(codec, x)
    decoded = wire.decode(payload, codec, x.size)
    wide = x.astype(np.float64)
    energy = float(wide @ wide)
    lost = float(np.sum((decoded - wide) ** 2))
    return payload, decoded, lost / energy if energy else lost


def _order_0_bytes(values: F32) -> float:
    """Return the entropy of the values' own histogram, in bytes."""
    counts = np.unique(values, return_counts=True)[1]
    return float(-(counts * np.log2(counts / values.size)).sum() / 8)


def _normal(size: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal(size, np.float32)


def _hard_vectors() -> dict[str, F32]:
    """Return vectors that break quantizers which trust an estimate."""
    rng = np.random.default_rng(3)
    huge = _normal(5_000)
    huge[77] = 1e30
    mixed = (_normal(6_000) * 1e-41).astype(np.float32)
    mixed[:9] = 1e-30
    layers = _normal(9_000) * np.repeat(np.array([1e-20, 1, 1e20], np.float32), 3_000)
    few = np.zeros(8_000, np.float32)
    few[[3, 5_000]] = 1.0, 1.5
    return {
        "one huge": huge,
        "denormals": (_normal(5_000) * 1e-41).astype(np.float32),
        "denormals and others": mixed,
        "layers": layers,
        "two values": few,
        "equal": np.full(5_000, 0.7, np.float32),
        "whole numbers": rng.integers(-3, 4, 5_000).astype(np.float32),
        "cauchy": rng.standard_cauchy(5_000).astype(np.float32),
        "powers": np.ldexp(np.float32(1), np.arange(-120, 120)).astype(np.float32),
    }


@pytest.mark.parametrize("least", [0.0, 2.0])
@pytest.mark.parametrize("error", ERRORS)
def test_the_error_is_kept_by_every_vector(error: float, least: float) -> None:
    codec = ECSQ(error, least_bits=least)
    inputs = _hard_vectors() | edge_vectors()
    for size in (1, 2, 3, 50):
        inputs |= {f"{n} {size}": x for n, x in vectors(size).items()}
    for name, x in inputs.items():
        payload, _, relative = _coded(codec, x)
        assert relative <= error, name
        assert len(payload) <= wire.HEADER_BYTES + 1 + 4 * x.size, name


@pytest.mark.parametrize("error", [*ERRORS, 0.7, 0.05])
@pytest.mark.parametrize("kind", ["normal", "laplace", "layers"])
def test_the_error_is_used_up_and_the_entropy_reached(error: float, kind: str) -> None:
    rng = np.random.default_rng(1)
    x = {
        "normal": rng.standard_normal(20_000),
        "laplace": rng.laplace(size=20_000),
        "layers": rng.standard_normal(20_000) * np.repeat([0.1, 1, 3, 0.5], 5_000),
    }[kind].astype(np.float32)
    payload, decoded, relative = _coded(ECSQ(error), x)
    assert 0.9 * error <= relative <= error
    entropy = _order_0_bytes(decoded)
    if error >= 1e-4:  # below, there are more levels than coordinates
        assert len(payload) <= max(1.05 * entropy, entropy + 40)
    if kind == "layers" and 1e-2 <= error <= 0.7:
        assert len(payload) < 0.96 * entropy


@pytest.mark.parametrize("size", [30, 100, 785, 2_000])
def test_small_vectors_take_at_most_40_bytes_more(size: int) -> None:
    for error in (0.7, 0.5, 0.3, 0.1, 0.01):
        payload, decoded, _ = _coded(ECSQ(error), _normal(size))
        assert len(payload) <= _order_0_bytes(decoded) + 40


@pytest.mark.parametrize("bits", [0.1, 0.5, 1.0, 2.0, 5.0])
def test_a_rate_is_met(bits: float) -> None:
    x = _normal(30_000) * np.repeat(np.array([1, 4, 0.2], np.float32), 10_000)
    payload, _, relative = _coded(codec_from(f"ecsq:bits={bits}"), x)  # type: ignore[arg-type]
    assert 8 * len(payload) / x.size == pytest.approx(bits, rel=0.05)
    assert relative < 2.0 ** (-2 * bits) * 1.1, "not above the bound for normal values"


def _kind(payload: bytes) -> int:
    return payload[KIND]


def test_what_is_sparse_and_what_cannot_be_quantized() -> None:
    few = np.zeros(200_000, np.float32)
    few[::1_000] = _normal(200)
    assert _kind(wire.encode(ECSQ(0.1), few)) == SPARSE
    assert _kind(wire.encode(ECSQ(0.1), _normal(5_000))) == LEVELS
    assert _kind(wire.encode(ECSQ(0.1), np.array([1e-45, 1e-44], np.float32))) == DENSE


@pytest.mark.parametrize("size", [4_500, 70_000])
@pytest.mark.parametrize("error", [0.5, 0.01, 1e-6])
def test_three_ways_give_the_same_bytes(
    size: int, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled, in plain Python, and in NumPy over all lanes."""
    x = _normal(size) * np.linspace(0.1, 2, size, dtype=np.float32)
    x[::7] = 0
    codec, found, decoded = ECSQ(error), set(), set()
    for available, wide_from in ((True, 64), (False, 1 << 20), (False, 1)):
        monkeypatch.setattr(backend, "available", available and backend.available)
        monkeypatch.setattr(backend, "WIDE_FROM", wide_from)
        payload = wire.encode(codec, x)
        found.add(payload)
        decoded.add(wire.decode(payload, codec, size).tobytes())
        if not backend.available and available:
            pytest.skip("needs the extra 'fast' (numba)")
    assert len(found) == 1
    assert len(decoded) == 1


def test_many_lanes_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several groups of lanes, each with a stream of its own."""
    x = _normal(150_000)
    codec, payloads = ECSQ(0.02), set()
    for threads, available in (("1", True), ("3", True), ("2", False)):
        monkeypatch.setenv("LASG_THREADS", threads)
        monkeypatch.setattr(backend, "available", available and backend.available)
        payload, _, relative = _coded(codec, x)
        assert relative <= 0.02
        payloads.add(payload)
    assert len(payloads) == 1
    head = wire.HEADER_BYTES + 1
    lanes = 1 << next(iter(payloads))[head + 4 + next(iter(payloads))[head + 3]]
    assert lanes == 64


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("ecsq:error=0", r"error must lie in \(0, 1\), got 0"),
        ("ecsq:error=1", "got 1"),
        ("ecsq:error=much", "got 'much'"),
        ("ecsq:bits=0", r"bits must lie in \(0, 24\], got 0"),
        ("ecsq:bits=2,error=0.1", "are both given: give one"),
    ],
)
def test_bad_parameters(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec_from(spec)


def test_hostile_bodies_are_named() -> None:
    codec, x = ECSQ(0.3), _normal(3_000)
    body = codec.encode(x)
    head = 1 + 4 + body[4]
    cases = {
        "kind 9": bytes([9]) + body[1:],
        "kind -1": b"",
        "a step of": body[:1] + bytes(3) + body[4:],
        "0 offsets": body[:4] + b"\0" + body[5:],
        "lanes for 3000": body[:head] + b"\x11" + body[head + 1 :],
        "do not end where": body[:-2],
        "low bits": body + bytes(2),
        "cut short": body[: head + 1],
        "of 3000 coordinates": bytes([SPARSE]) + body[1:head] + b"\xff" * 9,
        "not finite": bytes([DENSE]) + np.full(3_000, np.nan, "<f4").tobytes(),
    }
    for message, damaged in cases.items():
        with pytest.raises(WireError, match=message):
            codec.decode(damaged, x.size)


@pytest.mark.parametrize("least", [1.0, 2.0, 3.0])
def test_numbers_get_the_bits_that_they_have_to_at_least(least: float) -> None:
    rng = np.random.default_rng(2)
    dense = rng.laplace(size=20_000).astype(np.float32)
    half = dense * (rng.random(dense.size) < 0.5)
    tenth = dense * (rng.random(dense.size) < 0.1)
    skewed = rng.standard_cauchy(20_000).astype(np.float32)
    for x, part in ((dense, 1), (half, 1), (tenth, 0.2), (skewed, 1)):
        payload, _, relative = _coded(ECSQ(0.3, least_bits=least), x)
        bits, wanted = 8 * len(payload) / x.size, part * least
        assert 0.95 * wanted < bits < max(1.05 * wanted, 1.2)
        assert relative <= _coded(ECSQ(0.3), x)[2]
    with pytest.raises(ValueError, match="least_bits goes with error"):
        ECSQ(bits=2, least_bits=least)


@pytest.mark.parametrize("spec", ["ecsq:rounds=3", "ecsq:bits=0.5,rounds=3"])
def test_rounds_without_least_bits_are_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="rounds=3 is how long least_bits holds"):
        codec_from(spec)


def test_what_needs_no_more_bits_gets_no_more() -> None:
    for name in ("equal", "two values"):
        x = _hard_vectors()[name]
        assert ECSQ(least_bits=2).encode(x) == ECSQ().encode(x)
    fine = _normal(5_000)
    assert ECSQ(0.01, least_bits=2).encode(fine) == ECSQ(0.01).encode(fine)


def test_the_least_bits_halve_with_the_rounds() -> None:
    codec, x = codec_from("ecsq:error=0.3,least_bits=2,rounds=10"), _normal(5_000)
    assert isinstance(codec, ECSQ)
    found = [codec.at(k).least_bits for k in (0, 9, 10, 19, 20, 10_000)]
    assert found[:5] == [2, 2, 1, 1, 0.5]
    assert found[5] < 1e-15
    assert ECSQ(least_bits=2).at(10_000) == ECSQ(least_bits=2)
    for k in (0, 15, 80):  # what a round is encoded with, every round decodes
        payload = wire.encode(codec.at(k), x)
        decoded = wire.decode(payload, codec, x.size)
        assert (decoded == wire.decode(payload, codec.at(k), x.size)).all()
        assert codec_from("topk:k=3").at(k) == codec_from("topk:k=3")


@pytest.mark.parametrize("size", [500, 4_000, 20_000, 200_000])
def test_sums_of_levels_forecast_what_every_value_does(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for x in vectors(size).values():
        given = magnitudes.magnitudes(x)
        scale = float(np.sqrt(given.energy / size))
        for step, rounding in ((3.0, 0.2), (1.0, 0.3), (0.3, 0.48)):
            quantizer = magnitudes.Quantizer(step * scale, rounding, (0,))
            arguments = (given, step * scale, rounding, 4)
            sums = magnitudes.forecast(*arguments)
            bits = magnitudes.entropy(given, quantizer)
            with monkeypatch.context() as patch:
                patch.setattr(magnitudes, "_FEW", 1 << 30)  # levels are never few
                values = magnitudes.forecast(*arguments)
                assert bits == pytest.approx(magnitudes.entropy(given, quantizer))
            assert sums.quantizer == values.quantizer
            assert sums.lost == pytest.approx(values.lost, rel=1e-9)


def test_least_bits_are_met_from_either_side() -> None:
    """Where the error needs more, where `least_bits` do, and where it is about even."""
    scales = np.exp(_normal(20_000, 1))
    layers = np.repeat(np.exp(3 * _normal(20, 2)), 1_000)  # contexts code these well
    for x in (_normal(20_000) * scales, _normal(20_000) * layers):
        _check_least_bits(x)
    few = np.zeros(20_000, np.float32)
    few[::200] = _normal(100)
    assert 8 * len(ECSQ(error=0.3, least_bits=8).encode(few)) > 4 * 100


def _check_least_bits(x: F32) -> None:
    plain = 8 * len(ECSQ(error=0.3).encode(x)) / x.size
    for least in (0.5 * plain, 0.98 * plain, 1.02 * plain, 1.5 * plain, 4 * plain):
        _, _, lost = _coded(ECSQ(error=0.3, least_bits=least), x)
        bits = 8 * len(ECSQ(error=0.3, least_bits=least).encode(x)) / x.size
        assert lost <= 0.3
        assert bits == pytest.approx(max(plain, least), rel=0.03)
