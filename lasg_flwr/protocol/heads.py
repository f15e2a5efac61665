"""The fixed part of a request, and the settings that travel with a dense model."""

import json
import struct
from dataclasses import asdict
from typing import NamedTuple

from ..checks import json_value
from ..codecs.assignment import assigned_codecs
from ..config import Settings
from ..errors import WireError
from .versions import ID_BYTES

VERSION = 3
NO_ID = bytes(ID_BYTES)
_REQUEST = struct.Struct("<BB16s16s16sQQd")
_FORCE, _ACCEPTED, _MODEL, _PATH = 1, 2, 4, 8


class Head(NamedTuple):
    """The fixed part of a request, as it stands in a message.

    Attributes
    ----------
    session : bytes, 16
        Random for each life of a server process.
    round : int
        The server's counter k.
    turn : int
        Number of this batch of requests in the session: training, evaluation and
        repeats alike.
    threshold : float
        T^k.
    accepted_id : bytes, 16, or None
        Id of the worker's last upload that the server accepted.
    force : bool
        Whether the worker must upload.
    full_codec : str
        Codec of a full upload to this request, or an assignment of them.
    model : bytes, 16, or None
        Id of θ̂^k, where downloads are coded.
    has_path : bool
        Whether steps come along rather than the dense model.
    """

    session: bytes
    round: int
    turn: int
    threshold: float
    accepted_id: bytes | None
    force: bool
    full_codec: str
    model: bytes | None
    has_path: bool

    def to_bytes(self) -> bytes:
        """Return the head as it travels."""
        flags = (
            _FORCE * self.force
            + _ACCEPTED * (self.accepted_id is not None)
            + _MODEL * (self.model is not None)
            + _PATH * self.has_path
        )
        fixed = _REQUEST.pack(
            VERSION,
            flags,
            self.session,
            self.accepted_id or NO_ID,
            self.model or NO_ID,
            self.round,
            self.turn,
            self.threshold,
        )
        return fixed + self.full_codec.encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Head":
        """Read the head of a request that a server sent.

        Raises
        ------
        WireError
            If it is not one of this version.

        Examples
        --------
        >>> head = Head(bytes(16), 3, 5, 0.5, None, True, "dense", None, False)
        >>> Head.from_bytes(head.to_bytes()) == head, len(head.to_bytes())
        (True, 79)
        """
        if len(data) < _REQUEST.size or data[0] != VERSION:
            raise WireError(
                f"not a request of this release: {len(data)} bytes, version "
                f"{data[:1]!r}; this release reads version {VERSION}"
            )
        _, flags, session, accepted, model, round_, turn, threshold = (
            _REQUEST.unpack_from(data)
        )
        try:
            full_codec = data[_REQUEST.size :].decode()
            assigned_codecs(full_codec)
            if not threshold >= 0 or flags > 15:
                raise ValueError(f"threshold {threshold!r}, flags {flags}")
            if flags & _PATH and not flags & _MODEL:
                raise ValueError("steps without the id of a model")
        except ValueError as error:
            raise WireError(f"not a request of this release: {error}") from None
        return cls(
            session,
            round_,
            turn,
            threshold,
            accepted if flags & _ACCEPTED else None,
            bool(flags & _FORCE),
            full_codec,
            model if flags & _MODEL else None,
            bool(flags & _PATH),
        )


def settings_text(settings: Settings) -> str:
    """Return the settings as compact JSON, as they travel with a dense model."""
    return json.dumps(asdict(settings), separators=(",", ":"))


def settings_from(text: str) -> Settings:
    """Read the settings that a server sent.

    Raises
    ------
    WireError
        If they are none of this release.
    """
    try:
        return Settings(**json_value(text))
    except (ValueError, TypeError) as error:
        raise WireError(f"not settings of this release: {error}") from None
