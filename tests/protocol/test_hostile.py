"""200,000 hostile replies: the state stays as it is to the bit, memory bounded."""

import gc
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lasg_flwr import LasgServer, LasgWorker, WireError
from lasg_flwr.codecs import Dense, TopK, wire
from lasg_flwr.codecs.coding.entropy import BytesLike
from lasg_flwr.protocol import buffers
from lasg_flwr.protocol.messages import Reply, Request
from lasg_flwr.protocol.refusals import Refusal
from lasg_flwr.protocol.saving import capture
from tests.problems.least_squares import Running, least_squares
from tests.problems.servers import server_for

COUNT = 200_000
WORKERS = 6
ORACLES = least_squares(WORKERS, size=30)
SIZE = ORACLES[0].size


class Siege:
    """A server in the midst of a round, and a peer that sends what it likes."""

    def __init__(self, seed: int, server_memory: Any) -> None:
        self.rng = np.random.default_rng(seed)
        self.server = server_for(
            np.zeros(SIZE),
            "wk2",
            "topk:k=5",
            server_memory=server_memory,
            step=0.05,
            buffers=np.zeros(Running.width),
        )
        self.workers = [LasgWorker(Running(o), k) for k, o in enumerate(ORACLES)]
        self.old: list[Reply] = []
        for _ in range(5):
            for node, request in self.server.open_round(range(WORKERS)):
                reply = self._honest(node, request)
                assert self.server.receive(node, reply).kept
            self.server.close_round()
        self.state = _state(self.server)
        self.asked = dict(self.server.open_round(range(WORKERS)))
        self.replies = {n: self._honest(n, r) for n, r in self.asked.items()}

    def _honest(self, node: int, request: Request) -> Reply:
        reply = self.workers[node].handle(request)
        assert reply is not None
        self.old.append(reply)
        return reply

    def attack(self) -> None:
        """Send one bad reply."""
        kinds: tuple[Callable[[int], None], ...] = (
            self._header,
            self._payload,
            self._wrong_number,
            self._replay,
            self._foreign,
            self._not_finite,
            self._fields,
            self._buffers,
            self._random_bytes,
        )
        kinds[int(self.rng.integers(len(kinds)))](int(self.rng.integers(WORKERS)))

    def _send(self, node: int, reply: Reply) -> None:
        assert not self.server.receive(node, reply).kept, reply

    def _read(self, node: int, header: bytes, payload: BytesLike) -> None:
        try:
            reply = Reply.from_header(header, payload)
        except WireError:
            self.server.refuse(Refusal.MALFORMED)
            return
        self._send(node, reply)

    def _header(self, node: int) -> None:
        """Version, kind, session, round, turn, key or length of buffers is another."""
        header = bytearray(self.replies[node].header())
        place = int(self.rng.choice([0, 1, 3, 18, 51, 59, 67, -4]))
        header[place] ^= 128 | int(self.rng.integers(128))
        self._read(node, bytes(header), self.replies[node].body())

    def _random_bytes(self, node: int) -> None:
        size = int(self.rng.integers(200))
        self._read(node, self.rng.bytes(size), self.rng.bytes(size))

    def _upload(self, node: int, payload: bytes, kind: Any = "full") -> None:
        request = self.asked[node]
        base = None if kind == "full" else request.accepted_id
        reply = self.replies[node]._replace(kind=kind, base=base, payload=payload)
        self._send(node, reply)

    def _payload(self, node: int) -> None:
        """A payload that was cut, extended or changed in one bit."""
        codec = TopK(k=5)
        good = wire.encode(codec, np.ones(SIZE, np.float32))
        cut = int(self.rng.integers(len(good)))
        flipped = bytearray(good)
        flipped[cut] ^= 1 << int(self.rng.integers(8))
        choices = (good[:cut], good + bytes(1 + cut), bytes(flipped))
        self._upload(node, choices[int(self.rng.integers(3))], "innovation")

    def _wrong_number(self, node: int) -> None:
        """Another length, or another codec than was asked for."""
        codec = Dense() if self.rng.random() < 0.5 else TopK(k=1)
        size = SIZE + 1 if self.rng.random() < 0.5 else SIZE
        payload = wire.encode(codec, np.ones(size, np.float32))
        self._upload(node, payload, "innovation")

    def _replay(self, node: int) -> None:
        """What was sent in an earlier round, by anyone."""
        past = self.old[: -len(self.replies)]
        self._send(node, past[int(self.rng.integers(len(past)))])

    def _foreign(self, node: int) -> None:
        """Another worker's reply, or a node that was not asked."""
        other = (node + 1 + int(self.rng.integers(WORKERS - 1))) % WORKERS
        self._send(node, self.replies[other])
        self._send(1000 + node, self.replies[node])

    def _not_finite(self, node: int) -> None:
        """A well-formed payload whose last value is not finite."""
        payload = wire.encode(TopK(k=5), np.ones(SIZE, np.float32))
        bad = np.float32(self.rng.choice([np.nan, np.inf, -np.inf]))
        head, tail = payload[:8], payload[12:-4] + bad.tobytes()
        crc = zlib.crc32(tail, zlib.crc32(head))
        forged = head + crc.to_bytes(4, "little") + tail
        self._upload(node, forged, "innovation")

    def _buffers(self, node: int) -> None:
        """A good payload with buffers that were cut, forged or are too many."""
        width = Running.width
        good = buffers.encode(np.ones(width, np.float32))
        flipped = bytearray(good)
        flipped[int(self.rng.integers(len(good)))] ^= 1 << int(self.rng.integers(8))
        bad = (
            good[: 1 + int(self.rng.integers(len(good) - 1))],
            good + self.rng.bytes(1),
            bytes(flipped),
            buffers.encode(np.ones(width + 1, np.float32)),
            buffers.encode(np.full(width, self.rng.choice([np.nan, np.inf]), "f4")),
            self.rng.bytes(1 + int(self.rng.integers(100))),
        )
        payload = wire.encode(TopK(k=5), np.ones(SIZE, np.float32))
        forged = self.replies[node]._replace(
            kind="innovation",
            base=self.asked[node].accepted_id,
            payload=payload,
            buffers=bad[int(self.rng.integers(len(bad)))],
        )
        self._read(node, forged.header(), forged.body())

    def _fields(self, node: int) -> None:
        """Numbers that make no sense, a skip that carries bytes, a wrong base."""
        good = self.replies[node]
        good = good._replace(kind="innovation", base=self.asked[node].accepted_id)
        payload = wire.encode(TopK(k=5), np.ones(SIZE, np.float32))
        bad = (
            good._replace(payload=payload, examples=0),
            good._replace(payload=payload, smoothness_ratio=float("inf")),
            good._replace(payload=payload, smoothness_ratio=-1.0),
            good._replace(payload=payload, base=self.rng.bytes(16)),
            good._replace(payload=payload, base=None),
            good._replace(kind="skip", payload=b"x"),
            good._replace(kind="skip", payload=b"", buffers=b"x"),
            good._replace(kind="skip", payload=b"", base=None),
        )
        self._send(node, bad[int(self.rng.integers(len(bad)))])


def _state(server: LasgServer) -> tuple[dict[str, bytes], str]:
    """Everything but the ledger's counters, which are there to count this."""
    arrays, meta = capture(server)
    del meta["state"]["fields"]["ledger"]
    return {n: a.tobytes() for n, a in arrays.items()}, json.dumps(meta)


@pytest.mark.slow
@pytest.mark.parametrize("server_memory", ["per-worker", "sum-only"])
def test_hostile_replies_change_nothing(
    server_memory: str, record_property: Callable[[str, object], None]
) -> None:
    siege = Siege(0, server_memory)
    for _ in range(1000):
        siege.attack()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(5000):
        siege.attack()
    gc.collect()  # empties the interpreter's lists of free tuples
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 50_000
    start = time.process_time()
    for _ in range(COUNT // 2):
        siege.attack()
    each = (time.process_time() - start) / (COUNT // 2)
    record_property("microseconds", 1e6 * each)
    print(f"{server_memory}: {1e6 * each:.0f} us, grown {grown} bytes")
    assert each < 1e-3
    reasons = siege.server.ledger.refused
    assert reasons.total() >= COUNT // 2
    assert len(reasons) < 12
    assert set(reasons) > {
        *("malformed", "other round", "foreign key", "undecodable", "bad buffers")
    }
    _finish(siege)


def _finish(siege: Siege) -> None:
    """The honest replies still count, and the round closes as if nothing had been."""
    quiet = Siege(0, siege.server.settings.server_memory)
    for node, reply in siege.replies.items():
        assert siege.server.receive(node, reply).kept
    siege.server.close_round()
    for node, reply in quiet.replies.items():
        assert quiet.server.receive(node, reply).kept
    quiet.server.close_round()
    ours, theirs = capture(siege.server)[0], capture(quiet.server)[0]
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.tobytes() == theirs[name].tobytes(), name


def test_a_round_of_nothing_but_lies_leaves_the_state_to_the_bit() -> None:
    siege = Siege(1, "per-worker")
    for _ in range(2000):
        siege.attack()
    assert siege.server.ledger.refused.total() >= 2000
    siege.server._open = None  # as if the round had never been opened
    assert _state(siege.server) == siege.state
