"""A codec for every worker: who uses which, and what is refused."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from lasg_flwr import CheckpointError, LasgWorker, WireError, simulate
from lasg_flwr.codecs import Codec, Dense, TopK, wire
from lasg_flwr.codecs.assignment import (
    MAX_ENTRIES,
    assigned_codecs,
    assignment_spec,
    codec_of,
)
from lasg_flwr.errors import CodecSizeError
from lasg_flwr.protocol.heads import Head, settings_from
from lasg_flwr.protocol.saving import capture, restore
from lasg_flwr.strategies import LasgStrategy, LegacyLasgStrategy
from tests.problems.least_squares import least_squares
from tests.problems.servers import server_for

SIZE = 6
CYCLE = "topk:k=1;topk:k=2;dense"


def test_strings_and_lists_say_the_same() -> None:
    listed: list[str | Codec] = [TopK(k=1), "topk:k=2", Dense()]
    assert assignment_spec(listed) == assignment_spec(CYCLE) == CYCLE
    assert assigned_codecs(TopK(k=1)) == (TopK(k=1),)
    assert assigned_codecs(CYCLE) == (TopK(k=1), TopK(k=2), Dense())


def test_a_worker_uses_the_entry_of_its_key() -> None:
    for key in (0, 1, 2, 3, 1000, 2**64 - 1):
        assert codec_of(CYCLE, key) == assigned_codecs(CYCLE)[key % 3]


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        ([], "an assignment of 0 codecs"),
        ("topk:k=1;", "unknown codec ''"),
        ("topk:k=1;zip", "unknown codec 'zip'"),
        (
            ["topk:k=1"] * (MAX_ENTRIES + 1),
            f"an assignment of {MAX_ENTRIES + 1} codecs",
        ),
        (";" * 10**6, "an assignment of 1000001 codecs"),
        ("topk:k=0;topk", "k must be an integer >= 1"),
        ("topk:fraction=1.5;topk", r"fraction must lie in \(0, 1\]"),
    ],
)
def test_bad_cycles_are_refused(codec: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        server_for(np.zeros(SIZE), "sgd", codec, memory="error")


def test_every_entry_must_suit_the_memory() -> None:
    with pytest.raises(ValueError, match="is biased"):
        server_for(np.zeros(SIZE), codec="dense;topk", memory="gradient")


def test_more_coordinates_than_the_model_has_are_refused_once_it_is_known() -> None:
    options: dict[str, Any] = {"rule": "sgd", "codec": "topk:k=2;topk:k=7"}
    with pytest.raises(CodecSizeError, match=r"choose k in \[1, 6\]"):
        server_for(np.zeros(SIZE), memory="error", **options)
    server_for(np.zeros(SIZE + 1), memory="error", **options)
    for strategy in (LasgStrategy, LegacyLasgStrategy):
        strategy(memory="error", **options)  # it knows no model yet
        with pytest.raises(ValueError, match="reuses nothing"):
            strategy(memory="error", **{**options, "rule": "wk2"})


def test_a_request_with_too_long_a_cycle_is_no_request() -> None:
    (_, request), *_ = server_for(np.zeros(SIZE), codec=CYCLE).open_round([0])
    head = request.head()
    assert Head.from_bytes(head.to_bytes()) == head
    long = ";".join(["dense"] * (MAX_ENTRIES + 1))
    with pytest.raises(WireError, match="an assignment of 1025"):
        Head.from_bytes(head._replace(full_codec=long).to_bytes())
    changed = json.dumps(asdict(request.settings) | {"codec": long})
    with pytest.raises(WireError, match="an assignment of 1025"):
        settings_from(changed)


@pytest.mark.parametrize("memory", ["error", "innovation"])
def test_each_worker_sends_what_its_own_codec_makes(memory: Any) -> None:
    sizes: dict[int, list[int]] = {}
    workers = [LasgWorker(o, 10 + m) for m, o in enumerate(least_squares(3))]
    host = server_for(np.zeros(SIZE), "sgd", CYCLE, memory=memory)
    for _ in range(3):
        for node, request in host.open_round(range(3)):
            reply = workers[node].handle(request)
            assert reply is not None
            codec = codec_of(CYCLE, reply.key)
            decoded = wire.decode(reply.payload, codec, SIZE)
            sizes.setdefault(reply.key, []).append(int((decoded != 0).sum()))
            assert host.receive(node, reply).kept
        host.close_round()
    assert sizes == {10: [2] * 3, 11: [6] * 3, 12: [1] * 3}  # entry key mod 3


def test_anothers_codec_is_refused_and_changes_nothing() -> None:
    host = server_for(np.zeros(SIZE), "sgd", "topk:k=1;topk:k=2", memory="error")
    workers = [LasgWorker(o, m) for m, o in enumerate(least_squares(2))]
    requests = dict(host.open_round(range(2)))
    replies = [workers[m].handle(requests[m]) for m in range(2)]
    assert replies[0] is not None
    assert replies[1] is not None
    verdict = host.receive(0, replies[0]._replace(payload=replies[1].payload))
    assert (verdict.kept, verdict.reason) == (False, "undecodable")
    assert host.receive(0, replies[0]).kept


def test_a_checkpoint_goes_on_to_the_bit_and_only_with_its_cycle() -> None:
    oracles = least_squares(3)
    options: dict[str, Any] = {"rule": "sgd", "codec": CYCLE, "memory": "error"}
    whole = simulate(oracles, np.zeros(SIZE), rounds=20, step=0.05, **options)
    half = simulate(oracles, np.zeros(SIZE), rounds=10, step=0.05, **options)
    host = server_for(np.zeros(SIZE), step=0.05, **options)
    restore(host, capture(half.server))
    for _ in range(10):
        for node, request in host.open_round(range(3)):
            reply = half.workers[node].handle(request)
            assert reply is not None
            assert host.receive(node, reply).kept
        host.close_round()
    assert host.theta.tobytes() == whole.theta.tobytes()
    other = server_for(np.zeros(SIZE), "sgd", "topk:k=1;topk:k=2", memory="error")
    with pytest.raises(CheckpointError, match="checkpoint's codec"):
        restore(other, capture(half.server))
