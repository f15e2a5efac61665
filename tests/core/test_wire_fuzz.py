"""Hostile payloads: only `WireError`, and no more memory than the bound."""

import os
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
import zstandard

from lasg_flwr.codecs import QSGD, Codec, wire
from lasg_flwr.errors import WireError
from tests.problems.codec_cases import EXAMPLES, cases, vectors

PAYLOADS = int(os.environ.get("LASG_FUZZ_PAYLOADS", "208000"))
"""Over all codecs; set the environment variable for a longer run."""

EACH = PAYLOADS // len(EXAMPLES)
SIZES = (0, 1, 5, 33, 130)


def allocation_bound(size: int, payload: bytes) -> int:
    """Return bytes that decoding may allocate at most: see `Codec.decode`."""
    return 64 * size + 16 * len(payload) + 32_768


def sealed(codec: Codec, size: int, body: bytes) -> bytes:
    """Return a payload with this body and a correct header."""
    parameters = codec.parameters
    head = wire._HEADER.pack(wire.MAGIC, wire.VERSION, codec.tag, len(parameters), size)
    tail = parameters + body
    return head + wire._CRC.pack(zlib.crc32(tail, zlib.crc32(head))) + tail


def mutated(body: bytes, rng: np.random.Generator) -> bytes:
    """Return a body with some damage, or another altogether."""
    data, kind = bytearray(body), int(rng.integers(6))
    if kind == 0:
        return rng.bytes(int(rng.integers(len(data) + 8)))
    if kind == 1:
        return bytes(data[: int(rng.integers(len(data) + 1))])
    if kind == 2:
        return bytes(data) + rng.bytes(int(rng.integers(1, 9)))
    if kind == 3 and data:
        start = int(rng.integers(len(data)))
        data[start : start + 4] = rng.choice([b"\0" * 4, b"\xff" * 4, b"\1"])
        return bytes(data)
    for _ in range(int(rng.integers(1, 4)) if data else 0):
        at = int(rng.integers(min(len(data), 12) if kind == 4 else len(data)))
        data[at] ^= 1 << int(rng.integers(8))
    return bytes(data)


def payloads(
    codec: Codec, sizes: tuple[int, ...], count: int
) -> Iterator[tuple[int, bytes]]:
    """Draw sizes and payloads; one in twelve has a damaged header or checksum."""
    rng = np.random.default_rng(count)
    bodies = {
        (size, i): codec.encode(x, rng)
        for size in sizes
        for i, x in enumerate(vectors(size).values())
    }
    keys = list(bodies)
    for number in range(count):
        size, i = keys[int(rng.integers(len(keys)))]
        body = bodies[size, i]
        if number % 12:
            yield size, sealed(codec, size, mutated(body, rng))
        else:
            yield size, mutated(sealed(codec, size, body), rng)


@pytest.mark.slow
@pytest.mark.parametrize("codec", cases())
def test_only_wire_errors(codec: Codec) -> None:
    refused = decoded = 0
    for size, payload in payloads(codec, SIZES, EACH):
        try:
            x = wire.decode(payload, codec, size)
        except WireError:
            refused += 1
        else:
            assert x.shape == (size,)
            assert x.dtype == np.float32
            assert np.isfinite(x).all()
            decoded += 1
    assert refused + decoded == EACH
    assert refused > EACH // 10
    assert decoded > EACH // 100


def _peak(codec: Codec, size: int, payload: bytes) -> int:
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    with suppress(WireError):
        wire.decode(payload, codec, size)
    return tracemalloc.get_traced_memory()[1] - before


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("codec", cases())
def test_allocations_are_bounded(codec: Codec, request: pytest.FixtureRequest) -> None:
    sizes = (5, 3_000, 40_000)
    drawn = list(payloads(codec, sizes, 200))
    for size in sizes:  # compiles what is compiled, which takes memory once
        x = vectors(size)["normal"]
        payload = sealed(codec, size, codec.encode(x, np.random.default_rng(0)))
        wire.decode(payload, codec, size)
    request.getfixturevalue("traced")
    for size, payload in drawn:
        assert _peak(codec, size, payload) <= allocation_bound(size, payload)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("stated", [True, False])
def test_a_compression_bomb_is_not_unpacked(stated: bool) -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=stated)
    bomb = compressor.compress(bytes(1 << 28))
    payload = sealed(QSGD(), 512, np.ones(1, np.float32).tobytes() + b"\1" + bomb)
    with pytest.raises(WireError, match="compression bomb"):
        wire.decode(payload, QSGD(), 512)
    assert _peak(QSGD(), 512, payload) <= allocation_bound(512, payload)


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    frame = bytearray(zstandard.ZstdCompressor().compress(bytes(4_000)))
    honest = zstandard.get_frame_parameters(bytes(frame)).content_size
    at = bytes(frame).index((honest - 256).to_bytes(2, "little"))
    frame[at : at + 2] = (256 - 256).to_bytes(2, "little")
    assert zstandard.get_frame_parameters(bytes(frame)).content_size == 256
    body = np.ones(1, np.float32).tobytes() + b"\1" + bytes(frame)
    with pytest.raises(WireError, match="zstandard frame"):
        wire.decode(sealed(QSGD(), 512, body), QSGD(), 512)


@pytest.mark.parametrize("codec", cases())
def test_a_flipped_bit_anywhere_is_noticed(codec: Codec) -> None:
    x = vectors(30)["normal"]
    payload = wire.encode(codec, x, np.random.default_rng(0))
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            wire.decode(bytes(damaged), codec, 30)
