"""Ids of uploads: whatever differs, they do, in long payloads too."""

import zlib
from itertools import combinations

import numpy as np
import pytest

from lasg_flwr.codecs import Dense, wire
from lasg_flwr.protocol.messages import Reply
from lasg_flwr.protocol.upload_ids import upload_id

SIZES = [10, 40_000]


def _reply(x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Reply:
    return Reply(bytes(16), 3, 7, None, "full", wire.encode(Dense(), x))


@pytest.mark.parametrize("size", SIZES)
def test_one_bit_anywhere_makes_another_id(size: int) -> None:
    x = np.random.default_rng(0).standard_normal(size, np.float32)
    found = {upload_id(None, _reply(x))}
    for at in (0, size // 2, size - 1):
        changed = x.copy()
        changed.view(np.uint32)[at] ^= 1
        found.add(upload_id(None, _reply(changed)))
    assert len(found) == 4


@pytest.mark.parametrize("size", SIZES)
def test_the_same_payload_by_another_name_has_another_id(size: int) -> None:
    reply = _reply(np.ones(size, np.float32))
    ids = [
        upload_id(None, reply),
        upload_id(bytes(16), reply),
        upload_id(None, reply, b"m" * 16),
        upload_id(None, reply._replace(session=b"s" * 16)),
        upload_id(None, reply._replace(round=4)),
        upload_id(None, reply._replace(key=8)),
        upload_id(None, reply._replace(kind="innovation")),
    ]
    assert all(a != b for a, b in combinations(ids, 2))


@pytest.mark.parametrize("size", SIZES)
def test_a_view_has_the_id_of_its_bytes(size: int) -> None:
    reply = _reply(np.ones(size, np.float32))
    view = reply._replace(payload=memoryview(bytes(reply.payload)))
    assert upload_id(None, view) == upload_id(None, reply)


def test_a_checksum_in_common_is_not_enough() -> None:
    first, second = bytearray(1 << 17), bytearray(1 << 17)
    second[1 << 15] = 1
    _give_checksum(second, zlib.crc32(first), at=1 << 16)
    assert zlib.crc32(first) == zlib.crc32(second)
    ids = {
        upload_id(None, Reply(bytes(16), 3, 7, None, "full", bytes(payload)))
        for payload in (first, second)
    }
    assert len(ids) == 2


def _give_checksum(data: bytearray, crc: int, at: int) -> None:
    """Set four bytes of data so that it has the checksum, which is linear in them."""
    zero = zlib.crc32(data)
    basis: dict[int, tuple[int, int]] = {}  # highest bit: effect, bits set for it
    for bit in range(32):
        trial = bytearray(data)
        trial[at + bit // 8] = 1 << bit % 8
        effect, bits = zlib.crc32(trial) ^ zero, 1 << bit
        while effect and effect.bit_length() in basis:
            more, also = basis[effect.bit_length()]
            effect, bits = effect ^ more, bits ^ also
        basis[effect.bit_length()] = effect, bits
    wanted, bits = zero ^ crc, 0
    while wanted:
        more, also = basis[wanted.bit_length()]
        wanted, bits = wanted ^ more, bits ^ also
    data[at : at + 4] = bits.to_bytes(4, "little")
