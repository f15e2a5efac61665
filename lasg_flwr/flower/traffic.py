"""Bytes of messages between SuperLink and SuperNodes, as Flower itself counts them.

Flower's Fleet API moves a message in parts, and ``network-traffic`` in ``flwr list`` is
the sum of their lengths:

* every object of it, once for each node: the message, its records, their arrays;
* the envelope: metadata, and the tree of the objects' names, 64 characters each;
* for a reply, the answer that lists the names of the objects still to be sent.

Objects of equal content have one name; a reply's objects that the SuperLink already
has are not sent again, which is not known here and makes these figures the larger by
some bytes. HTTP, TLS, heartbeats and empty polls are in neither.
"""

import json
from collections.abc import Callable, Iterable
from logging import DEBUG
from typing import Any, NamedTuple

from flwr.app import Message
from flwr.app.message.message import remove_content_from_message
from flwr.common import FitIns, FitRes, log
from flwr.common.serde import fit_ins_to_proto, fit_res_to_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
    Reconnect,
)
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node

from ..checks import quoted
from .object_sizes import NAME, Part, head_bytes, record_part

_SESSION = "0" * 36


class Traffic(NamedTuple):
    """Bytes on the wire, from the nodes and to the nodes."""

    uplink_bytes: int
    downlink_bytes: int


def of_requests(messages: Iterable[Message]) -> Traffic:
    """Return the traffic of messages that nodes pull."""
    return _total(messages, _pulled)


def of_replies(messages: Iterable[Message]) -> Traffic:
    """Return the traffic of messages that nodes push."""
    return _total(messages, _pushed)


def _total(
    messages: Iterable[Message], moved: Callable[[Message, Part], Traffic]
) -> Traffic:
    """Add up messages; a shared record is looked at once.

    A message that Flower cannot encode, which a simulation never does, counts as 0.
    """
    known: dict[int, Part] = {}
    up = down = 0
    for message in messages:
        try:
            traffic = moved(message, _message_part(message, known))
        except Exception as error:  # whatever protobuf raises
            node = message.metadata.src_node_id
            log(DEBUG, "lasg: node %d: no bytes: %s", node, quoted(error))
            continue
        up += traffic.uplink_bytes
        down += traffic.downlink_bytes
    return Traffic(up, down)


def _pulled(message: Message, part: Part) -> Traffic:
    envelope = PullMessagesResponse(
        messages_list=[_bare(message)], message_object_trees=[part.tree]
    )
    node = Node(node_id=message.metadata.dst_node_id)
    request = PullMessagesRequest(node=node)
    return Traffic(request.ByteSize(), part.bytes + envelope.ByteSize())


def _pushed(message: Message, part: Part) -> Traffic:
    envelope = PushMessagesRequest(
        node=Node(node_id=message.metadata.src_node_id),
        messages_list=[_bare(message)],
        message_object_trees=[part.tree],
        clientapp_runtime_list=[1.0],
    )
    answer = PushMessagesResponse(
        reconnect=Reconnect(reconnect=5),
        results={NAME: 0},
        objects_to_push=[NAME] * part.objects,
        session_id=_SESSION,
    )
    return Traffic(part.bytes + envelope.ByteSize(), answer.ByteSize())


def _bare(message: Message) -> MessageProto:
    """Return a message without content, named as it will be once it is sent."""
    proto = message_to_proto(remove_content_from_message(message))
    proto.metadata.message_id = NAME
    return proto


def _message_part(message: Message, known: dict[int, Part]) -> Part:
    own = len(remove_content_from_message(message).deflate())
    if not message.has_content():
        return Part(own, 1, ObjectTree(object_id=NAME))
    content = message.content
    distinct: dict[object, Part] = {}
    for record in content.values():
        if id(record) not in known:
            known[id(record)] = record_part(record)
        part = known[id(record)]
        name = part.tree.object_id
        distinct[id(record) if name == NAME else name] = part
    parts = distinct.values()
    body = len(json.dumps(dict.fromkeys(content, NAME)).encode())
    middle = head_bytes("RecordDict", len(parts), body) + body
    tree = ObjectTree(object_id=NAME, children=[part.tree for part in parts])
    return Part(
        own + middle + sum(part.bytes for part in parts),
        2 + sum(part.objects for part in parts),
        ObjectTree(object_id=NAME, children=[tree]),
    )


def of_fit_requests(requests: Iterable[FitIns]) -> Traffic:
    """Return the bytes of an older strategy's requests, as gRPC messages carry them."""
    return Traffic(0, sum(_size(fit_ins_to_proto, ins) for ins in requests))


def of_fit_results(results: Iterable[FitRes]) -> Traffic:
    """Return the bytes of the answers to them, likewise."""
    return Traffic(sum(_size(fit_res_to_proto, result) for result in results), 0)


def _size(encoded: Callable[[Any], Any], message: Any) -> int:
    """Return the length of a message; 0 if Flower cannot encode it."""
    try:
        return int(encoded(message).ByteSize())
    except Exception as error:  # whatever protobuf raises
        log(DEBUG, "lasg: no bytes: %s", quoted(error))
        return 0
