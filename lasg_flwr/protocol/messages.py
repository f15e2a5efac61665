"""Requests and replies: what the two state machines say to each other."""

import json
import struct
from dataclasses import asdict
from hashlib import blake2b
from math import inf, isnan, nan
from typing import Any, Literal, NamedTuple, get_args

from ..checks import json_value, real, whole
from ..codecs.assignment import assigned_codecs
from ..config import U64, Settings
from ..errors import WireError
from ..vectors import F32, NO_BUFFERS

ReplyKind = Literal["skip", "innovation", "full"]

VERSION = 2
OLDER_KEY = "lasg-older-iterate"
"""In a round's config, as an oracle sees it: this run is at the older iterate."""

ID_BYTES = SESSION_BYTES = 16
_NO_ID = bytes(ID_BYTES)
_KINDS: tuple[ReplyKind, ...] = get_args(ReplyKind)
_REPLY = struct.Struct("<BBB16s16sQQddQIQ")
_ID_HEAD = struct.Struct("<16sQQB")


class Request(NamedTuple):
    """What the server sends to a worker.

    Attributes
    ----------
    settings : Settings
        Agreed for the run.
    session : bytes, 16
        Random for each life of a server process.
    round : int
        The server's counter k.
    theta : ndarray, shape (p,), float32
        θ^k, read-only.
    threshold : float
        T^k.
    accepted_id : bytes, 16, or None
        Id of the worker's last upload that the server accepted.
    force : bool
        Whether the worker must upload.
    full_codec : str
        Codec of a full upload to this request, or an assignment of them.
    buffers : ndarray, shape (B,), float32
        The server's buffers (BatchNorm statistics), read-only.
    config : dict, optional
        The user's config of the round, where there is one; it travels by itself.
    """

    settings: Settings
    session: bytes
    round: int
    theta: F32
    threshold: float
    accepted_id: bytes | None
    force: bool
    full_codec: str
    buffers: F32 = NO_BUFFERS
    config: dict[str, Any] | None = None

    def header(self) -> str:
        """Return everything but θ and the buffers as compact JSON."""
        fields: dict[str, Any] = {
            "version": VERSION,
            "settings": asdict(self.settings),
            "session": self.session.hex(),
            "round": self.round,
            "threshold": self.threshold,
            "have": None if self.accepted_id is None else self.accepted_id.hex(),
            "force": self.force,
            "full_codec": self.full_codec,
        }
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def from_header(cls, text: str, theta: F32, buffers: F32 = NO_BUFFERS) -> "Request":
        """Read a request that a server sent.

        Raises
        ------
        WireError
            If it is not a request of this version.
        """
        try:
            fields = json_value(text)
            version = fields.pop("version")
            if version != VERSION:
                raise ValueError(f"version {version!r}, this release reads {VERSION}")
            accepted = fields.pop("have")
            request = cls(
                settings=Settings(**fields.pop("settings")),
                session=_fixed(bytes.fromhex(fields.pop("session"))),
                accepted_id=_id_from(accepted),
                theta=theta,
                buffers=buffers,
                **fields,
            )
            request.check()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise WireError(f"not a request of this release: {error}") from None
        return request

    def check(self) -> None:
        """Raise ValueError unless round, threshold, force and codec make sense."""
        whole("round", self.round, most=U64 - 1)
        if self.threshold != inf:  # of steps beyond all floats
            real("threshold", self.threshold, least=0.0)
        if not isinstance(self.force, bool):
            raise ValueError(f"bad force {self.force!r}")
        if not isinstance(self.full_codec, str):
            raise ValueError(f"bad codec {self.full_codec!r}")
        assigned_codecs(self.full_codec)


def _id_from(text: str | None) -> bytes | None:
    return None if text is None else _fixed(bytes.fromhex(text))


def _fixed(value: bytes) -> bytes:
    if len(value) != ID_BYTES:
        raise ValueError(f"an id of {len(value)} bytes, expected {ID_BYTES}")
    return value


class Reply(NamedTuple):
    """What a worker answers.

    Attributes
    ----------
    session, round : bytes, int
        Those of the request.
    key : int
        The worker's key, which seeds and the order of summation hang on.
    base : bytes, 16, or None
        The request's `accepted_id`, if the worker has that upload; else None.
    kind : {"skip", "innovation", "full"}
        What the payload is.
    payload : bytes
        See `lasg_flwr.codecs.wire`; empty for a skip.
    lhs : float
        Left-hand side of a worker's rule; NaN where none was computed.
    smoothness_ratio : float or None
        Equation (17) (PSE).
    examples : int
        Number of the worker's training examples.
    gradient_evaluations : int
        Minibatch gradients computed for this reply.
    buffers : bytes
        With an upload, the worker's buffers as values; empty where it has none.
        They stand behind the payload.
    """

    session: bytes
    round: int
    key: int
    base: bytes | None
    kind: ReplyKind
    payload: bytes = b""
    lhs: float = nan
    smoothness_ratio: float | None = None
    examples: int = 1
    gradient_evaluations: int = 0
    buffers: bytes = b""

    def header(self) -> bytes:
        """Return everything but the body, as bytes."""
        return _REPLY.pack(
            VERSION,
            _KINDS.index(self.kind),
            self.base is not None,
            self.session,
            self.base or _NO_ID,
            self.round,
            self.key,
            self.lhs,
            nan if self.smoothness_ratio is None else self.smoothness_ratio,
            self.examples,
            self.gradient_evaluations,
            len(self.buffers),
        )

    def body(self) -> bytes:
        """Return payload and buffers, as they travel."""
        return self.payload + self.buffers

    @classmethod
    def from_header(cls, header: bytes, body: bytes) -> "Reply":
        """Read a reply that a worker sent.

        Parameters
        ----------
        header, body : bytes
            What `header` and `body` returned; nothing about them is trusted.

        Raises
        ------
        WireError
            If it is not a reply of this version.

        Examples
        --------
        >>> reply = Reply(bytes(16), 3, 7, None, "full", b"...")
        >>> copy = Reply.from_header(reply.header(), b"...")
        >>> (copy.round, copy.key, copy.kind, copy.base)
        (3, 7, 'full', None)
        """
        if len(header) != _REPLY.size or header[0] != VERSION:
            raise WireError(
                f"a reply header of {len(header)} bytes, version {header[:1]!r}; this "
                f"release reads {_REPLY.size} bytes, version {VERSION}"
            )
        *head, n, evaluations, extra = _REPLY.unpack(header)
        _, kind, known, session, base, round_, key, lhs, ratio = head
        if kind >= len(_KINDS) or known > 1:
            raise WireError(f"a reply of unknown kind {kind} or flag {known}")
        if extra > len(body):
            raise WireError(
                f"a reply of {len(body)} bytes cannot hold {extra} bytes of buffers"
            )
        end = len(body) - extra
        return cls(
            session,
            round_,
            key,
            base if known else None,
            _KINDS[kind],
            body[:end],
            lhs,
            None if isnan(ratio) else ratio,
            n,
            evaluations,
            body[end:],
        )


def upload_id(accepted_id: bytes | None, reply: Reply) -> bytes:
    """Return blake2b-128(accepted_id, session, round, key, kind, payload).

    Both sides compute it. Every field but the payload has a fixed length, so that no
    two different uploads hash the same bytes. An id says which h_m both sides hold, so
    the buffers are no part of it: nobody holds them after the round, and with them in
    it two equal h_m could go by different ids, and a worker be refreshed for nothing.

    Examples
    --------
    >>> a = Reply(bytes(16), 3, 7, None, "full", b"x")
    >>> upload_id(None, a) == upload_id(bytes(16), a)
    False
    """
    base = b"\0" + _NO_ID if accepted_id is None else b"\1" + accepted_id
    kind = _KINDS.index(reply.kind)
    head = base + _ID_HEAD.pack(reply.session, reply.round, reply.key, kind)
    return _hashed.of(head, reply.payload)


class _Hashed:
    """The last hash: in one process the server asks for what the worker has hashed.

    Hashing is dearer than anything else that the engine does with a dense upload.
    """

    _last: tuple[bytes, bytes, bytes] = (b"", b"", b"")

    def of(self, head: bytes, payload: bytes) -> bytes:
        """Return blake2b-128(head, payload)."""
        known_head, known_payload, found = self._last
        if payload is known_payload and head == known_head:
            return found  # the same object, and bytes do not change
        digest = blake2b(head, digest_size=ID_BYTES)
        digest.update(payload)
        self._last = head, bytes(payload), digest.digest()
        return self._last[2]


_hashed = _Hashed()
