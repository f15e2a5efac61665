"""Versions of the model: what a worker holds, and the steps that lead to the next.

With coded downloads the server keeps θ and, beside it, the θ̂ that workers hold. After
each round it broadcasts one coded step, and both sides add what it decodes to:

    step = C(θ^{k+1} − θ̂^k),      θ̂^{k+1} = θ̂^k + step        (EF21-P)

A version is known by what it is, so that nobody has to count steps:

    id = SHA-256("model", setup, θ̂, buffers), cut to 128 bits

where the setup is a digest of the run's settings and of the model's names and shapes.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from ..codecs import Codec, wire
from ..config import Settings
from ..errors import WireError
from ..vectors import F32, NO_BUFFERS, frozen, is_finite

ID_BYTES = 16
_LENGTH = struct.Struct("<I")
STEP_OVERHEAD = ID_BYTES + _LENGTH.size
"""Bytes of a step on the wire beside its payload."""


class Form(NamedTuple):
    """What a model is made of, beside θ and buffers; the protocol does not look inside.

    Attributes
    ----------
    layout : str
        Names, shapes, dtypes and kinds, see `lasg_flwr.layout.Layout.to_json`.
    integers : bytes
        The raw integer arrays.
    """

    layout: str = ""
    integers: bytes = b""


NO_FORM = Form()


class HeldModel(NamedTuple):
    """A version of the model, as a worker keeps it.

    Attributes
    ----------
    id : bytes, 16
        What it is known by.
    theta : ndarray, shape (p,), float32
        θ̂, read-only.
    buffers : ndarray, shape (B,), float32
        The model's buffers.
    settings : Settings
        Those of the run.
    form : Form
        What the model is made of.
    """

    id: bytes
    theta: F32
    buffers: F32
    settings: Settings
    form: Form


class Step(NamedTuple):
    """One step of θ̂: the version that it leads to, and the coded difference.

    Attributes
    ----------
    id : bytes, 16
        The version after it.
    payload : bytes
        See `lasg_flwr.codecs.wire`, followed by the buffers as raw float32.
    """

    id: bytes
    payload: bytes


class Path(NamedTuple):
    """Steps from one version of the model to another; none where it is the same one.

    Attributes
    ----------
    base : bytes, 16
        The version before the first step.
    steps : tuple of Step
        In order.
    """

    base: bytes
    steps: tuple[Step, ...] = ()

    @property
    def length(self) -> int:
        """Bytes that it takes on the wire."""
        if not self.steps:
            return 0
        return ID_BYTES + sum(STEP_OVERHEAD + len(s.payload) for s in self.steps)

    def to_bytes(self) -> bytes:
        """Return the path as it travels; nothing at all where there are no steps.

        Examples
        --------
        >>> path = Path(bytes(16), (Step(b"1" * 16, b"abc"),))
        >>> path.length == len(path.to_bytes()) == 39
        True
        >>> Path.from_bytes(path.to_bytes(), b"") == path
        True
        """
        if not self.steps:
            return b""
        parts = [self.base]
        for step in self.steps:
            parts += (step.id, _LENGTH.pack(len(step.payload)), step.payload)
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes, model: bytes) -> "Path":
        """Read a path that leads to the version `model`.

        Raises
        ------
        WireError
            If the bytes are no path.
        """
        if not data:
            return cls(model)
        if len(data) < ID_BYTES:
            raise WireError(f"a path of {len(data)} bytes is shorter than one id")
        return cls(data[:ID_BYTES], tuple(_steps(data)))

    def after(self, version: bytes) -> tuple[Step, ...] | None:
        """Return the steps after the *last* place of a version; None if it is not here.

        Examples
        --------
        >>> a, b = bytes(16), b"1" * 16
        >>> path = Path(a, (Step(b, b"there"), Step(a, b"back"), Step(b, b"again")))
        >>> [step.payload for step in path.after(a)]
        [b'again']
        """
        for i in range(len(self.steps), 0, -1):
            if self.steps[i - 1].id == version:
                return self.steps[i:]
        return self.steps if self.base == version else None


def _steps(data: bytes) -> Iterator[Step]:
    at = ID_BYTES
    while at < len(data):
        head = data[at : at + STEP_OVERHEAD]
        if len(head) < STEP_OVERHEAD:
            raise WireError(f"a path of {len(data)} bytes ends within a step's head")
        (length,) = _LENGTH.unpack_from(head, ID_BYTES)
        at += STEP_OVERHEAD
        if length > len(data) - at:
            raise WireError(
                f"a step of {length} bytes, but only {len(data) - at} are left"
            )
        yield Step(head[:ID_BYTES], data[at : at + length])
        at += length


def setup_digest(settings: Settings, form: Form) -> bytes:
    """Return a hash of everything that a dense model brings along with θ̂."""
    text = json.dumps(asdict(settings), sort_keys=True, separators=(",", ":"))
    digest = sha256()
    for part in (text.encode(), form.layout.encode(), form.integers):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()[:ID_BYTES]


def model_id(setup: bytes, theta: F32, buffers: F32 = NO_BUFFERS) -> bytes:
    """Return the id of ("model", setup, θ̂, buffers), as little-endian float32.

    Examples
    --------
    >>> theta = np.zeros(2, np.float32)
    >>> model_id(bytes(16), theta) == model_id(bytes(16), theta + 0)
    True
    >>> model_id(bytes(16), theta) == model_id(bytes(16), -theta)
    False
    """
    digest = sha256(b"model" + setup)
    for vector in (theta, buffers):
        digest.update(vector.size.to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(vector, "<f4").view(np.uint8).data)
    return digest.digest()[:ID_BYTES]


def encode_step(
    codec: Codec, difference: F32, buffers: F32, rng: np.random.Generator | None
) -> bytes:
    """Return the payload of a step: the coded difference, and the buffers as values."""
    coded = wire.encode(codec, difference, rng)
    return b"".join((coded, buffers.astype("<f4").tobytes()))


def apply_step(
    codec: Codec, payload: bytes, theta: F32, buffers: F32
) -> tuple[F32, F32]:
    """Return θ̂ and buffers after a step; server and workers call this one function.

    Parameters
    ----------
    codec : Codec
        What the step is encoded with.
    payload : bytes
        The bytes that travel; nothing about them is trusted.
    theta, buffers : ndarray
        The version before it.

    Raises
    ------
    WireError
        If the payload is off, or leads to NaN or infinity.
    """
    end = len(payload) - buffers.nbytes
    if end < 0:
        raise WireError(f"a step of {len(payload)} bytes cannot hold the buffers")
    decoded = wire.decode(payload[:end], codec, theta.size)
    moved = frozen(np.add(theta, decoded, dtype=np.float32))
    values = frozen(np.frombuffer(payload, "<f4", buffers.size, end).astype(np.float32))
    if not is_finite(moved) or not is_finite(values):
        raise WireError("a step leads to NaN or infinity")
    return moved, values


def follow(held: HeldModel, path: Path, target: bytes) -> HeldModel | None:
    """Return the version `target`, reached from a held one; None if it is not reached.

    Only the steps after the last place of the held version are applied, and the result
    is hashed: what a worker computes at is what the server means, or nothing.

    Parameters
    ----------
    held : HeldModel
        What the worker has.
    path : Path
        What the server sent.
    target : bytes, 16
        The id that the server sent.
    """
    steps = path.after(held.id)
    if steps is None:
        return None
    theta, buffers = held.theta, held.buffers
    try:
        for step in steps:
            codec = held.settings.downlink_codec
            theta, buffers = apply_step(codec, step.payload, theta, buffers)
    except WireError:
        return None
    if model_id(setup_digest(held.settings, held.form), theta, buffers) != target:
        return None
    return held._replace(id=target, theta=theta, buffers=buffers)
