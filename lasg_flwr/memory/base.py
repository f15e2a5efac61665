"""What every memory offers: the worker's half, the server's half, and their states.

An upload is relative to something that both sides remember. The worker encodes it, the
server decodes the same bytes, so that both hold the same h_m to the bit. The server
keeps S = Σ w_m h_m in float64 and W = Σ w_m over the workers in it.

| memory | the upload is | the worker then keeps | the server keeps |
|---|---|---|---|
| innovation | encode(g − h), or encode(g) without a base | h + decode | S, each h |
| innovation, sum only | the same | h + decode in float64 | S |
| gradient | encode(g) | nothing | S, each payload |
| error-feedback | encode(e + g) | e + g − decode, or e + g if lost | this round's sum |
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from ..codecs import Codec, wire
from ..codecs.coding.entropy import BytesLike
from ..vectors import F32, F64

Generators = Callable[[], np.random.Generator]
M = TypeVar("M", bound=NamedTuple)


class Encoded(NamedTuple):
    """An encoded upload.

    Attributes
    ----------
    kind : {"innovation", "full"}
        What the payload is.
    payload : bytes
        The bytes to send.
    state : NamedTuple, optional
        What the worker keeps of it.
    """

    kind: str
    payload: BytesLike
    state: Any


class Slots(NamedTuple, Generic[M]):
    """A worker's states of this memory when a request arrives.

    Attributes
    ----------
    base : NamedTuple, optional
        That of the upload that the server builds on, if the worker has it.
    committed, pending : NamedTuple, optional
        Those of the last upload known to be accepted, and of a later one that may be.
    accepted : bool
        Whether the pending upload was accepted, or what it carried came with a later
        one that was, and that this worker has forgotten.
    same_run : bool
        Whether the worker has answered this server before.
    """

    base: M | None
    committed: M | None
    pending: M | None
    accepted: bool
    same_run: bool


class Upload(NamedTuple):
    """An accepted upload, decoded.

    Attributes
    ----------
    kind : {"innovation", "full"}
        Whether `decoded` is a difference or a gradient.
    decoded : ndarray, shape (p,), float32
        Gain applied.
    payload : bytes
        The bytes as received.
    codec : Codec
        What the payload is encoded with.
    id : bytes, 16
        The upload's id.
    round : int
        The round it was made in.
    buffers : ndarray, shape (B,), float32, or None
        The worker's buffers, if they came along.
    """

    kind: str
    decoded: F32
    payload: BytesLike
    codec: Codec
    id: bytes
    round: int
    buffers: F32 | None = None


class Member(Protocol):
    """What a memory sees, and may change, of the server's record of a worker."""

    key: int
    weight: float
    id: bytes | None
    round: int
    memory: Any


Members = Callable[[], Sequence[Member]]
"""Returns all workers, in key order."""


@dataclass
class Sum:
    """S and W between two rounds; each memory derives what else it keeps.

    Attributes
    ----------
    total : ndarray, shape (p,), float64
        S.
    weight : float
        W.
    """

    total: F64
    weight: float = 0.0

    def mean(self) -> F64:
        """Return ∇^k = S / W of equation (5)."""
        return self.total / self.weight


@dataclass(frozen=True)
class Memory(ABC):
    """One memory: a frozen value; its states go in and out of its methods.

    The server's sum is changed in place: a copy of S for each upload would cost more
    than all else.

    Parameters
    ----------
    lossless : bool (default: False)
        Whether all codecs of the run are: differences save nothing then.
    """

    name: ClassVar[str]
    held: ClassVar[str]
    """What the server holds: the name of its half."""
    worker_state: ClassVar[type[Any] | None]
    """What a worker keeps of an upload: a NamedTuple, or None for nothing."""
    member_state: ClassVar[type[Any]]
    """What the server keeps of a worker: a NamedTuple; defaults for a stranger."""
    sum_state: ClassVar[type[Sum]] = Sum
    damps_full: ClassVar[bool] = False
    """Whether full uploads of an unbiased codec are damped, as innovations are."""
    weighs_anew: ClassVar[bool] = False
    """Whether w_m is that of each upload's own number of examples, not of the first."""

    lossless: bool = False

    @property
    def sends_innovations(self) -> bool:
        """Whether a worker with a known base sends g − h_m rather than g."""
        return False

    @property
    def keeps_h(self) -> bool:
        """Whether a worker keeps what the server decodes its upload to."""
        return self.sends_innovations

    def held_at_worker(self, state: Any) -> F32 | F64 | None:
        """Return h_m out of a worker's state of this memory, if it is there."""
        return None

    def check(self, codecs: Sequence[Codec], decided_by: str) -> None:  # noqa: B027
        """Raise ValueError if codecs or rule do not go together with this memory."""

    def check_size(self, codecs: Sequence[Codec], size: int) -> None:
        """Raise ValueError if the codecs do not work for vectors of this length."""
        for codec in codecs:
            codec.innovation_gain(size)

    def later_full_codec(self, codec: str) -> str:
        """Return the default codec of a worker's full uploads after its first."""
        return codec

    # the worker's half

    def is_relative(self, slots: Slots[Any]) -> bool:
        """Return whether the next upload is an innovation, in the run's codec."""
        return False

    @abstractmethod
    def encode(
        self, codec: Codec, g: F32, slots: Slots[Any], rng: Generators
    ) -> Encoded:
        """Encode a gradient.

        Parameters
        ----------
        codec : Codec
            That of innovations or of full uploads, as `is_relative` says.
        g : ndarray, shape (p,)
            The gradient.
        slots : Slots
            What the worker kept of its last uploads.
        rng : callable
            Returns the generator that a stochastic codec draws from.
        """

    # the server's half

    def start(self, size: int) -> Sum:
        """Return an empty sum for p = `size`."""
        return self.sum_state(np.zeros(size))

    def in_sum(self, member: Member) -> bool:
        """Return whether an h_m of this worker is part of S."""
        return bool(member.memory.in_sum)

    def waits(self, member: Member) -> bool:
        """Return whether the worker is left alone until a new start."""
        return False

    def rests(self, member: Member, round_: int) -> bool:
        """Return whether a worker that was refreshed again and again is left alone."""
        return False

    @abstractmethod
    def apply(self, state: Any, member: Member, upload: Upload) -> None:
        """Take in one upload of this round, in key order."""

    @abstractmethod
    def settle(self, state: Any, members: Members) -> None:
        """Bring S up to date: the round closes, or somebody has left."""

    @abstractmethod
    def remove(self, state: Any, member: Member, members: Members) -> None:
        """Take out a worker that leaves."""

    def new_start(
        self,
        state: Any,
        members: Members,
        oldest: int,
        lost_share: float,
    ) -> list[Member] | None:
        """Begin anew if it is due; return the members that are forgotten by it.

        Their ids are left to the caller, who may need them once more.

        Parameters
        ----------
        state : Sum
            The server's.
        members : callable
            Returns all workers, in key order.
        oldest : int
            k − D.
        lost_share : float
            Share of the workers that may have lost their state.
        """
        return None


def encoded(codec: Codec, x: F32, rng: Generators) -> BytesLike:
    """Return a payload; only a stochastic codec asks for a generator."""
    return wire.encode_framed(codec, x, rng() if codec.stochastic else None)


def encoded_decoded(
    codec: Codec, x: F32, gain: float, rng: Generators
) -> tuple[BytesLike, F32]:
    """Return a payload, and what the server will decode it to."""
    return wire.encode_decoded(codec, x, gain, rng() if codec.stochastic else None)


def add(total: F64, x: F32 | F64, weight: float) -> None:
    """Add w·x to `total` in float64."""
    total += x if weight == 1.0 else np.multiply(x, weight, dtype=np.float64)


def accept(member: Member, upload: Upload) -> None:
    """Note the upload as the worker's last one."""
    member.id = upload.id
    member.round = upload.round
