"""Requests and replies: what the two state machines say to each other."""

import struct
from math import isnan, nan
from typing import Any, Literal, NamedTuple, get_args

from ..codecs.coding.entropy import BytesLike
from ..config import Settings
from ..errors import WireError
from ..vectors import F32, NO_BUFFERS
from .heads import NO_ID, VERSION, Head
from .versions import ID_BYTES, NO_FORM, Form, Path

ReplyKind = Literal["skip", "innovation", "full", "no-model"]

OLDER_KEY = "lasg-older-iterate"
"""In a round's config, as an oracle sees it: this run is at the older iterate."""

SESSION_BYTES = ID_BYTES
KINDS: tuple[ReplyKind, ...] = get_args(ReplyKind)
_REPLY = struct.Struct("<BBB16s16s16sQQQddQIQ")
_BASE, _HOLDS = 1, 2


class Request(NamedTuple):
    """What the server sends to a worker.

    Attributes
    ----------
    settings : Settings
        Agreed for the run.
    session, round, threshold, accepted_id, force, full_codec
        See `lasg_flwr.protocol.heads.Head`.
    theta : ndarray, shape (p,), float32
        θ̂^k, read-only; where only steps travel, a worker finds it by itself.
    buffers : ndarray, shape (B,), float32
        The server's buffers (BatchNorm statistics), read-only.
    config : dict, optional
        The user's config of the round, where there is one; it travels by itself.
    turn, model
        See `lasg_flwr.protocol.heads.Head`.
    path : Path, optional
        The steps to θ̂^k; None where the dense model travels.
    form : Form
        What the model is made of; it travels with a dense one.
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
    turn: int = 0
    model: bytes | None = None
    path: Path | None = None
    form: Form = NO_FORM

    @property
    def path_bytes(self) -> int | None:
        """Bytes that the steps take on the wire; None for the dense model."""
        return None if self.path is None else self.path.length

    def head(self) -> Head:
        """Return the part of fixed length."""
        return Head(
            self.session,
            self.round,
            self.turn,
            self.threshold,
            self.accepted_id,
            self.force,
            self.full_codec,
            self.model,
            self.path is not None,
        )

    @classmethod
    def of(
        cls,
        head: Head,
        settings: Settings,
        theta: F32,
        buffers: F32 = NO_BUFFERS,
        form: Form = NO_FORM,
        path: Path | None = None,
    ) -> "Request":
        """Put a request together again from what travelled."""
        return cls(
            settings,
            head.session,
            head.round,
            theta,
            head.threshold,
            head.accepted_id,
            head.force,
            head.full_codec,
            buffers,
            turn=head.turn,
            model=head.model,
            path=path,
            form=form,
        )


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
    kind : {"skip", "innovation", "full", "no-model"}
        What the payload is; "no-model" says that the request could not be followed,
        for want of the model that its steps begin at.
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
    turn : int
        That of the request.
    holds : bytes, 16, or None
        Id of the model that the worker holds after this request, if it keeps one.
    """

    session: bytes
    round: int
    key: int
    base: bytes | None
    kind: ReplyKind
    payload: BytesLike = b""
    lhs: float = nan
    smoothness_ratio: float | None = None
    examples: int = 1
    gradient_evaluations: int = 0
    buffers: bytes = b""
    turn: int = 0
    holds: bytes | None = None

    def header(self) -> bytes:
        """Return everything but the body, as bytes."""
        return _REPLY.pack(
            VERSION,
            KINDS.index(self.kind),
            _BASE * (self.base is not None) + _HOLDS * (self.holds is not None),
            self.session,
            self.base or NO_ID,
            self.holds or NO_ID,
            self.round,
            self.turn,
            self.key,
            self.lhs,
            nan if self.smoothness_ratio is None else self.smoothness_ratio,
            self.examples,
            self.gradient_evaluations,
            len(self.buffers),
        )

    def body(self) -> BytesLike:
        """Return payload and buffers, as they travel."""
        if not self.buffers:
            return self.payload
        return b"".join((self.payload, self.buffers))

    @classmethod
    def from_header(cls, header: bytes, body: BytesLike) -> "Reply":
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
        _, kind, flags, session, base, holds, round_, turn, key, lhs, ratio = head
        if kind >= len(KINDS) or flags > _BASE + _HOLDS:
            raise WireError(f"a reply of unknown kind {kind} or flags {flags}")
        if extra > len(body):
            raise WireError(
                f"a reply of {len(body)} bytes cannot hold {extra} bytes of buffers"
            )
        end = len(body) - extra
        return cls(
            session,
            round_,
            key,
            base if flags & _BASE else None,
            KINDS[kind],
            body[:end],
            lhs,
            None if isnan(ratio) else ratio,
            n,
            evaluations,
            bytes(body[end:]),
            turn,
            holds if flags & _HOLDS else None,
        )
