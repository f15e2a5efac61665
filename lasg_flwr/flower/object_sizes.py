"""Lengths of Flower's objects, without making them.

Flower moves a record as objects: the record, its arrays, and pieces of their data. To
make them only for their lengths would copy and hash all data once more. An object is a
head, a divider, and a body; a head holds the class, the names of the objects below it
(64 characters each), and the length of the body.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE as MOST_BYTES
from flwr.proto.message_pb2 import ObjectTree

NAME = "0" * 64
_ENDS = 64
_DIVIDER_BYTES = 1


class Part(NamedTuple):
    """A message or record: bytes of its objects, how many they are, their tree."""

    bytes: int
    objects: int
    tree: ObjectTree


def head_bytes(kind: str, names: int, body: int) -> int:
    """Return the length of the head of an object, divider included.

    Parameters
    ----------
    kind : str
        The object's class.
    names : int
        How many objects stand below it.
    body : int
        Length of its body.

    Examples
    --------
    >>> head_bytes("ArrayChunk", 0, 1234) == len(b"ArrayChunk  1234" + bytes(1))
    True
    """
    below = max(0, (len(NAME) + 1) * names - 1)
    return len(f"{kind}  {body}") + below + _DIVIDER_BYTES


def record_part(record: ArrayRecord | ConfigRecord | MetricRecord) -> Part:
    """Return the part of a record."""
    if isinstance(record, ArrayRecord):
        return _array_record_part(record)
    data = record.deflate()  # numbers and short texts
    return Part(len(data), 1, ObjectTree(object_id=record.object_id))


def _array_record_part(record: Mapping[str, Array]) -> Part:
    distinct: list[Array] = []
    for array in record.values():
        if not any(_equal(array, known) for known in distinct):
            distinct.append(array)
    parts = [_array_part(array) for array in distinct]
    body = len(json.dumps(dict.fromkeys(record, NAME)).encode())
    own = head_bytes("ArrayRecord", len(parts), body) + body
    return Part(
        own + sum(part.bytes for part in parts),
        1 + sum(part.objects for part in parts),
        ObjectTree(object_id=NAME, children=[part.tree for part in parts]),
    )


def _equal(a: Array, b: Array) -> bool:
    alike = (a.dtype, a.shape, a.stype) == (b.dtype, b.shape, b.stype)
    return alike and a.data == b.data


def _array_part(array: Array) -> Part:
    pieces, places = _distinct_pieces(array.data)
    fields: dict[str, Any] = {
        "dtype": array.dtype,
        "shape": array.shape,
        "stype": array.stype,
        "arraychunk_ids": places,
    }
    body = len(json.dumps(fields).encode())
    own = head_bytes("Array", len(pieces), body) + body
    below = sum(head_bytes("ArrayChunk", 0, n) + n for n in map(len, pieces))
    leaves = [ObjectTree(object_id=NAME) for _ in pieces]
    tree = ObjectTree(object_id=NAME, children=leaves)
    return Part(own + below, 1 + len(pieces), tree)


def _distinct_pieces(data: bytes) -> tuple[list[memoryview], list[int]]:
    """Return the pieces of different content, and which of them stands where."""
    view = memoryview(data)
    pieces: list[memoryview] = []
    places: list[int] = []
    for start in range(0, len(view), MOST_BYTES):
        piece = view[start : start + MOST_BYTES]
        at = next((i for i, p in enumerate(pieces) if _same(p, piece)), len(pieces))
        if at == len(pieces):
            pieces.append(piece)
        places.append(at)
    return pieces, places


def _same(a: memoryview, b: memoryview) -> bool:
    """Compare two pieces; of most the ends differ, and no copies are made."""
    if len(a) != len(b) or a[:_ENDS] != b[:_ENDS] or a[-_ENDS:] != b[-_ENDS:]:
        return False
    return np.array_equal(np.frombuffer(a, np.uint8), np.frombuffer(b, np.uint8))
