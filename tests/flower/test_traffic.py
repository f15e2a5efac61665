"""Bytes of messages: the lengths of Flower's own objects, without making them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from experiments.inprocess import InProcessGrid
from lasg_flwr import LasgConfig, LasgServer
from lasg_flwr.flower import object_sizes, traffic
from lasg_flwr.strategies.replies import MessageReplies

pytestmark = pytest.mark.flower


def arrays(*values: Any) -> ArrayRecord:
    return ArrayRecord({f"a{i}": Array(np.asarray(v)) for i, v in enumerate(values)})


CONTENTS = [
    RecordDict(),
    RecordDict({"m": MetricRecord({"x": 1, "y": [0.5, 2.0]})}),
    RecordDict({"empty": ConfigRecord(), "other": ConfigRecord({"é": b"1", "s": "x"})}),
    RecordDict({"none": ArrayRecord()}),
    RecordDict({"a": arrays(np.arange(3, dtype="u1"), np.ones((2, 3), "f4"), 1.5)}),
    RecordDict({"twins": arrays(np.ones(3), np.ones(3), np.zeros(3))}),
    RecordDict({"a": arrays(np.arange(5)), "c": ConfigRecord({"k": 2})}),
]


def record_bytes(record: Any) -> int:
    return sum(len(o.deflate()) for o in get_all_nested_objects(record).values())


@pytest.mark.parametrize("content", CONTENTS)
def test_the_bytes_are_those_of_flowers_objects(content: RecordDict) -> None:
    InProcessGrid(lambda message, context: message, 1)  # says who makes messages
    message = Message(content, 7, MessageType.TRAIN)
    found = traffic._message_part(message, {})
    objects = get_all_nested_objects(message)
    assert found.bytes == sum(len(o.deflate()) for o in objects.values())
    assert found.objects == len(objects)


def test_an_error_has_no_objects_but_itself() -> None:
    InProcessGrid(lambda message, context: message, 1)
    asked = Message(RecordDict(), 7, MessageType.TRAIN)
    asked.metadata.__dict__["_message_id"] = "1"
    error = Message(Error(2, "no"), reply_to=asked)
    found = traffic._message_part(error, {})
    assert (found.bytes, found.objects) == (len(error.deflate()), 1)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_long_arrays_go_in_pieces_of_which_equal_ones_go_once(
    zeros: bool, extra: int
) -> None:
    size = 2 * FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE + extra
    data = bytes(size) if zeros else np.random.default_rng(0).bytes(size)
    record = ArrayRecord({"w": Array("uint8", (size,), "numpy.ndarray", data)})
    found = object_sizes.record_part(record)
    assert found.bytes == record_bytes(record)
    assert found.objects == len(get_all_nested_objects(record))


def test_no_array_is_serialised_or_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    record = arrays(np.ones(1000))
    message = Message(RecordDict({"a": record}), 7, MessageType.TRAIN)

    def refuse(self: Any) -> Any:
        raise AssertionError("an array was serialised")

    monkeypatch.setattr(Array, "deflate", refuse)
    monkeypatch.setattr(Array, "slice_array", refuse)
    assert traffic.of_requests([message, message]).downlink_bytes > 2 * 8000
    assert traffic.of_replies([message]).uplink_bytes > 8000


class Counted(list[Message]):
    """A list that counts how often it is gone through."""

    times = 0

    def __iter__(self) -> Iterator[Message]:
        self.times += 1
        return super().__iter__()


def test_many_errors_are_assigned_to_their_nodes_in_one_pass() -> None:
    """The SuperLink's own errors name another node as theirs: itself."""
    InProcessGrid(lambda message, context: message, 1)
    sent = Counted(Message(RecordDict(), n, MessageType.TRAIN) for n in range(10, 60))
    replies = MessageReplies(fail_limit=2)
    server = LasgServer(np.zeros(1), LasgConfig())
    for _ in range(2):
        replies.open(sent)
        for message in sent:
            message.metadata.__dict__["_message_id"] = f"id {message.metadata}"
        sent.times = 0
        for message in list(sent):
            reply = Message(Error(3, "gone"), reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = 1
            assert replies.take(server, reply) is None
        assert sent.times == 2
        assert replies._node_of(reply) == 59
        replies.failures.close(0)
    nodes = list(range(5, 70))
    left = [*range(5, 10), *range(60, 70)]
    assert replies.failures.reachable(nodes, 1) == left
