"""Ids of uploads: whatever differs, they do, in long payloads too."""

from itertools import combinations

import numpy as np
import pytest

from lasg_flwr.codecs import Dense, wire
from lasg_flwr.protocol.messages import Reply, upload_id

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
