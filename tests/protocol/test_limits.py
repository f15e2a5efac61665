"""Numbers of peers: whatever they are, nothing that follows raises or overflows."""

import json
import struct
from contextlib import suppress
from math import inf, isfinite
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lasg_flwr import LasgServer, WireError
from lasg_flwr.checks import MOST_EXAMPLES
from lasg_flwr.codecs import Dense, wire
from lasg_flwr.protocol import buffers
from lasg_flwr.protocol.heads import Head, settings_from, settings_text
from lasg_flwr.protocol.limits import LARGEST_VALUE
from lasg_flwr.protocol.messages import Reply, Request
from lasg_flwr.protocol.saving import Capture, capture, restore
from lasg_flwr.vectors import F32
from tests.problems.servers import server_for

FLOATS = st.one_of(
    st.floats(),
    st.sampled_from([5e-324, 1.7976931348623157e308, 1e200, 1e154, -0.0, inf]),
)
U64S = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, 1, MOST_EXAMPLES, 2**53, 2**63, 2**64 - 1]),
)
VALUES = st.lists(
    st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.sampled_from([3.4028234663852886e38, -3.4028234663852886e38, 1e-45]),
    ),
    min_size=2,
    max_size=2,
)
QUICK = settings(derandomize=True, database=None, deadline=None, max_examples=150)
OPTIONS: dict[str, Any] = {"weights": "examples", "step": 0.1, "norm_bound": 1e6}


def _payload(values: Any) -> bytes:
    return wire.encode(Dense(), np.array(values, np.float32))


def _reply(request: Request, key: int, values: Any, **fields: Any) -> Reply:
    payload = _payload(values)
    reply = Reply(request.session, request.round, key, None, "full", payload)
    reply = reply._replace(turn=request.turn)
    return reply._replace(**fields)


def _server(rule: str, server_memory: Any) -> LasgServer:
    server = server_for(np.zeros(2), rule, server_memory=server_memory, **OPTIONS)
    for _ in range(2):
        _play(server, {0: {}, 1: {}})
    return server


def _play(server: LasgServer, replies: dict[int, dict[str, Any]]) -> None:
    for node, request in server.open_round([0, 1]):
        fields = {"values": [1.0, 2.0], **replies[node]}
        reply = _reply(request, node, fields.pop("values"), **fields)
        server.receive(node, Reply.from_header(reply.header(), reply.body()))
    server.close_round()


@pytest.mark.parametrize("server_memory", ["per-worker", "sum-only"])
@pytest.mark.parametrize("rule", ["sgd", "wk2", "pse"])
@QUICK
@given(
    lhs=FLOATS,
    smoothness_ratio=FLOATS,
    examples=U64S,
    gradient_evaluations=st.integers(0, 2**32 - 1),
    values=VALUES,
)
def test_no_header_and_no_values_raise_or_overflow(
    rule: str, server_memory: str, **fields: Any
) -> None:
    server = _server(rule, server_memory)
    _play(server, {0: fields, 1: {}})
    arrays, meta = capture(server)
    resumed = server_for(np.zeros(2), rule, server_memory=server_memory, **OPTIONS)
    restore(resumed, Capture(arrays, meta))
    for server_ in (server, resumed):
        for _ in range(3):
            _play(server_, {0: {}, 1: {}})
        assert np.isfinite(server_.sum.total).all()
        assert isfinite(server_.sum.weight)
        assert server_.sum.weight >= 1
        assert server_.ledger.gradient_evaluations < 2**63


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"examples": 0}, "0 examples, expected 1 to"),
        ({"examples": 2**64 - 1}, "18446744073709551615 examples"),
        ({"gradient_evaluations": 2**32 - 1}, "4294967295 gradient evaluations"),
        ({"smoothness_ratio": -1.0}, "a smoothness ratio of -1.0"),
        ({"smoothness_ratio": inf}, "a smoothness ratio of inf"),
    ],
)
@pytest.mark.parametrize("kind", ["full", "skip"])
def test_a_number_out_of_range_is_a_bad_header_that_names_it(
    fields: dict[str, Any], detail: str, kind: Any
) -> None:
    server = server_for(np.zeros(2), "lag", step=0.1)
    ids: dict[int, bytes | None] = {}
    for k in range(2):
        ids = {n: r.accepted_id for n, r in server.open_round([0])}
        session, turn = server.session, server.broadcast.turn
        reply = Reply(session, k, 0, None, "full", _payload([1, 2]), turn=turn)
        if k:
            break
        assert server.receive(0, reply).kept
        server.close_round()
    if kind == "skip":
        reply = reply._replace(kind="skip", payload=b"", base=ids[0])
    verdict = server.receive(0, reply._replace(**fields))
    assert verdict.reason == "bad header"
    assert detail in verdict.detail
    assert server.receive(0, reply).kept


def test_a_huge_ratio_means_contact() -> None:
    server = _server("pse", "per-worker")
    _play(server, {0: {"smoothness_ratio": 1e200}, 1: {}})
    for _ in range(3):
        requests = server.open_round([0, 1])
        assert 0 in dict(requests)
        for node, request in requests:
            server.receive(node, _reply(request, node, [1.0, 1.0]))
        server.close_round()


def test_values_that_cannot_be_added_up_are_refused() -> None:
    server = server_for(np.zeros(2), "sgd", step=0.1, buffers=np.zeros(1))
    ((_, request),) = server.open_round([0])
    too_much = np.nextafter(np.float32(LARGEST_VALUE), np.float32(inf))
    huge = server.receive(0, _reply(request, 0, [1.0, too_much]))
    assert huge.reason == "undecodable"
    assert "1.27e+30" in huge.detail
    odd = buffers.encode(np.full(1, too_much))
    assert server.receive(0, _reply(request, 0, [1, 1], buffers=odd)).reason == (
        "bad buffers"
    )
    assert server.receive(0, _reply(request, 0, [1.0, LARGEST_VALUE])).kept


@QUICK
@given(st.binary(max_size=120), st.binary(max_size=60))
def test_any_bytes_are_a_reply_or_a_wire_error(header: bytes, body: bytes) -> None:
    with suppress(WireError):
        Reply.from_header(header, body)


THETA: F32 = np.zeros(2, np.float32)
SCALARS = st.one_of(FLOATS, st.integers(), st.booleans(), st.none(), st.text())


@QUICK
@given(data=st.binary(max_size=120), start=st.integers(0, 80))
def test_any_head_of_a_server_is_one_or_a_wire_error(data: bytes, start: int) -> None:
    ((_, request),) = server_for(THETA).open_round([0])
    good = request.head().to_bytes()
    for text in (data, good[:start] + data):
        try:
            read = Head.from_bytes(text)
        except WireError:
            continue
        assert 0 <= read.round < 2**64
        assert read.threshold >= 0
        struct.pack("<Qd", read.round, read.threshold)


@QUICK
@given(
    name=st.sampled_from(
        ["rule", "codec", "memory", "server_memory", "seed", "downlink", "other"]
    ),
    value=st.recursive(
        SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ),
)
def test_any_settings_of_a_server_are_some_or_a_wire_error(
    name: str, value: Any
) -> None:
    ((_, request),) = server_for(THETA).open_round([0])
    fields = json.loads(settings_text(request.settings))
    fields[name] = value
    try:
        read = settings_from(json.dumps(fields))
    except WireError:
        return
    assert 0 <= read.seed < 2**64


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "1" * 5000])
def test_nested_or_endless_json_is_a_wire_error(text: str) -> None:
    with pytest.raises(WireError, match="not settings"):
        settings_from(text)
