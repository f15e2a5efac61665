"""The wire: tags, parameters, and what a reader refuses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from lasg_flwr.codecs import CODECS, QSGD, Codec, Dense, codec_from, wire
from lasg_flwr.codecs.coding import range_coder
from lasg_flwr.codecs.coding.entropy import BytesLike
from lasg_flwr.errors import WireError
from lasg_flwr.vectors import F32
from tests.problems.codec_cases import (
    decode_encoded,
    keyed_rng,
    needs_range_coder,
    vectors,
)


@dataclass(frozen=True)
class Half(Codec):
    """A codec whose decoder is missing."""

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        return b""


def _with(name: str, tag: Any, base: Any = Dense) -> Any:
    return type(name, (base,), {"name": name, "tag": tag})


def test_tags_are_checked_at_import() -> None:
    wire.check_tags(c for c in CODECS.classes.values() if c.tag < 128)
    assert CODECS.classes["dense"].tag == 1
    with pytest.raises(ImportError, match="share tag 1"):
        wire.check_tags([Dense, _with("other", 1)])
    with pytest.raises(ImportError, match="tag 9 has no decoder"):
        wire.check_tags([_with("half", 9, Half)])
    for bad in (0, 256, "3"):
        with pytest.raises(ImportError, match="expected 1 to 127"):
            wire.check_tags([_with("bad", bad)])


@needs_range_coder
def test_a_reader_without_the_extra_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codec = codec_from("qsgd:entropy=range")
    x = vectors(3_000)["heavy"]
    payload = wire.encode(codec, x, keyed_rng())
    assert payload != wire.encode(QSGD(), x, keyed_rng())
    assert np.array_equal(
        wire.decode(payload, QSGD(), 3_000), decode_encoded(QSGD(), x)
    )
    monkeypatch.setattr(range_coder, "available", False)
    with pytest.raises(WireError, match="pip install constriction"):
        wire.decode(payload, codec, 3_000)
    with pytest.raises(ImportError, match="pip install constriction"):
        wire.encode(codec, x, keyed_rng())


def test_other_parameters_are_refused() -> None:
    x = vectors(20)["normal"]
    payload = wire.encode(QSGD(bits=4), x, keyed_rng())
    for codec in (QSGD(bits=5), QSGD(bucket=8), QSGD(norm="l2"), codec_from("uniform")):
        with pytest.raises(WireError, match="expected"):
            wire.decode(payload, codec, 20)


def test_a_level_above_the_grid_is_refused() -> None:
    norms, codes = np.ones(1, np.float32).tobytes(), bytes([0, 0xE7])
    assert QSGD().decode(norms + codes, 2).tolist() == [0.0, 1.0]
    with pytest.raises(WireError, match="above the 7"):
        QSGD().decode(norms + bytes([0, 0xF7]), 2)


def test_decode_takes_views() -> None:
    body: BytesLike = memoryview(QSGD().encode(np.ones(4, np.float32), keyed_rng()))
    assert QSGD().decode(body, 4).tolist() == [1.0] * 4


def test_large_payloads_are_what_small_ones_are() -> None:
    """Above 4 MiB, bytes are allocated in another way; every one must be there."""
    x = np.arange(1 << 20, dtype=np.float32)
    payload = wire.encode(Dense(), x)
    assert len(payload) == wire.HEADER_BYTES + (4 << 20)
    assert payload[wire.HEADER_BYTES :] == x.tobytes()
    assert np.array_equal(wire.decode(payload, Dense(), x.size), x)
    assert isinstance(payload, bytes)
    assert hash(payload) == hash(bytes(bytearray(payload)))


@pytest.mark.parametrize("size", [3, 1 << 20])
def test_payloads_ready_to_be_sent_have_the_same_bytes(size: int) -> None:
    x = np.arange(size, dtype=np.float32)
    assert wire.encode_framed(Dense(), x) == wire.encode(Dense(), x)


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, np.nan), (9000, np.inf), (-1, -np.inf), (-1, 1e31), (8192, -2.0e30)],
)
def test_one_value_that_is_too_large_is_found_in_long_vectors(
    at: int, value: float
) -> None:
    x = np.ones(20_000, np.float32)
    x[at] = value
    with pytest.raises(WireError, match=r"NaN or infinity|magnitude"):
        wire.decode(wire.encode(Dense(), x), Dense(), x.size, largest=1e30)
    x[at] = -1e30
    wire.decode(wire.encode(Dense(), x), Dense(), x.size, largest=1.01e30)
