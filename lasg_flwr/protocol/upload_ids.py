"""What an upload is known by: a hash of what it is and of what it builds on."""

import struct
from hashlib import sha256

import numpy as np

from ..codecs.coding.entropy import BytesLike
from .heads import NO_ID
from .messages import KINDS, Reply
from .versions import ID_BYTES

_HEAD = struct.Struct("<16sQ16sQB")
_WHOLE, _END = 1 << 16, 1 << 12


def upload_id(
    accepted_id: bytes | None, reply: Reply, model: bytes | None = None
) -> bytes:
    """Return the hash of (accepted_id, session, round, model, key, kind, payload).

    It is SHA-256, cut to 128 bits. Of a payload above 64 KiB the first and the last
    4 KiB go in, with the payload's own checksum of 32 bits over all of it, which was
    checked, and the sum of its words, of 64 bits: SHA-256 of every byte would take
    longer than all else that is done with a dense upload. An id is no proof of what a
    worker sent, it is the name of an upload: session, round and key make it one of a
    kind but for a worker that answers one request twice, and that could mistake two
    payloads for each other with a chance of 2^-96, or by its own intent.

    Both sides compute it. Every field but the payload has a fixed length, so that no
    two different uploads hash the same bytes. An id says which h_m both sides hold, so
    the buffers are no part of it: nobody holds them after the round, and with them in
    it two equal h_m could go by different ids, and a worker be refreshed for nothing.

    Parameters
    ----------
    accepted_id : bytes, 16, or None
        What the upload builds on.
    reply : Reply
        The upload.
    model : bytes, 16, or None
        The version of the model that it was made at, where downloads are coded.

    Examples
    --------
    >>> a = Reply(bytes(16), 3, 7, None, "full", b"x")
    >>> upload_id(None, a) == upload_id(bytes(16), a)
    False
    """
    base = b"\0" + NO_ID if accepted_id is None else b"\1" + accepted_id
    kind, at = KINDS.index(reply.kind), model or NO_ID
    head = base + _HEAD.pack(reply.session, reply.round, at, reply.key, kind)
    return _hashed.of(head, reply.payload)


class _Hashed:
    """The last hash: in one process the server asks for what the worker hashed."""

    _last: tuple[bytes, bytes, bytes] = (b"", b"", b"")

    def of(self, head: bytes, payload: BytesLike) -> bytes:
        """Return the first 128 bits of SHA-256(head, payload or its two ends)."""
        known_head, known_payload, found = self._last
        if payload is known_payload and head == known_head:
            return found  # the same object, and bytes do not change
        digest = sha256(head)
        if len(payload) <= _WHOLE:
            digest.update(payload)
        else:
            digest.update(payload[:_END])
            digest.update(payload[-_END:])
            digest.update(_word_sum(payload))
        found = digest.digest()[:ID_BYTES]
        if isinstance(payload, bytes):
            self._last = head, payload, found
        return found


def _word_sum(payload: BytesLike) -> bytes:
    """Return the sum of the payload's whole words of 64 bits, modulo 2^64."""
    words = np.frombuffer(payload, "<u8", len(payload) // 8)
    return int(words.sum(dtype=np.uint64)).to_bytes(8, "little")


_hashed = _Hashed()
