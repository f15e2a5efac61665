"""S = Σ w_m h_m and W = Σ w_m, kept up to date: what the server remembers."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from . import wire
from .codecs import codec_from, spec_of
from .cycle import codec_of
from .messages import Kind
from .roster import Record
from .settings import Settings
from .vectors import F32, F64, frozen


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
    codec : str
        Codec of the payload, or the cycle that it is an entry of.
    id : bytes, 16
        The upload's id.
    round : int
        The round it was made in.
    buffers : ndarray, shape (B,), float32, or None
        The worker's buffers, if they came along.
    """

    kind: Kind
    decoded: F32
    payload: bytes
    codec: str
    id: bytes
    round: int
    buffers: F32 | None = None


def _add(total: F64, x: F32 | F64, weight: float) -> None:
    """Add w·x to `total` in float64."""
    total += x if weight == 1.0 else np.multiply(x, weight, dtype=np.float64)


class Aggregate(ABC):
    """The sum S in float64 and the weight W of the workers in it.

    Attributes
    ----------
    total : ndarray, shape (p,), float64
        S.
    weight : float
        W.
    """

    def __init__(self, size: int) -> None:
        self.total: F64 = np.zeros(size)
        self.weight = 0.0

    def mean(self) -> F64:
        """Return ∇^k = S / W of equation (5)."""
        return self.total / self.weight

    @abstractmethod
    def apply(self, record: Record, upload: Upload) -> None:
        """Take in one upload of this round, in key order."""

    @abstractmethod
    def settle(self) -> None:
        """Bring S up to date: the round closes."""

    @abstractmethod
    def remove(self, record: Record) -> None:
        """Take out a worker that leaves."""


def _accept(record: Record, upload: Upload) -> None:
    record.id = upload.id
    record.round = upload.round


class PerWorkerAggregate(Aggregate):
    """Every h_m is held, so any upload can replace it and any worker can leave.

    A round in which every worker replaces its h_m builds S anew from zero, in key
    order: that is how `Always` with `Dense` comes out as SGD to the bit.

    Attributes
    ----------
    members : int
        How many workers are part of S.
    """

    def __init__(self, size: int, keep_payloads: bool, members: int = 0) -> None:
        super().__init__(size)
        self._keep_payloads = keep_payloads
        self._incoming: F64 | None = None
        self._outgoing: F64 | None = None
        self.members = members
        self._replaced = 0

    def apply(self, record: Record, upload: Upload) -> None:
        """Replace or add the worker's h_m."""
        if self._incoming is None:
            self._incoming = np.zeros_like(self.total)
        new = upload.decoded
        if record.counted:
            old = self.held(record)
            if self._outgoing is None:
                self._outgoing = np.zeros_like(self.total)
            _add(self._outgoing, old, record.weight)
            if upload.kind == "innovation":
                new = frozen(old + new)
        else:
            self.weight += record.weight
            self.members += 1
            record.counted = True
        self._replaced += 1
        _add(self._incoming, new, record.weight)
        record.held, record.held_codec = new, ""
        if self._keep_payloads:
            record.held = upload.payload
            record.held_codec = spec_of(codec_of(upload.codec, record.key))
        _accept(record, upload)

    def settle(self) -> None:
        """Set S to Σ w h: from zero if all were replaced, else S − old + new."""
        if self._incoming is None:
            return
        if self._replaced == self.members:
            self.total = self._incoming
        else:
            if self._outgoing is not None:
                self.total -= self._outgoing
            self.total += self._incoming
        self._incoming = self._outgoing = None
        self._replaced = 0

    def remove(self, record: Record) -> None:
        """Subtract the worker's h_m."""
        if record.counted:
            _add(self.total, self.held(record), -record.weight)
            self.weight -= record.weight
            self.members -= 1
        if self.members == 0:
            self.total = np.zeros_like(self.total)
            self.weight = 0.0
        record.held, record.counted, record.id = None, False, None

    def held(self, record: Record) -> F32:
        """Return h_m of a worker that is part of S."""
        if isinstance(record.held, bytes):
            codec = codec_from(record.held_codec)
            return wire.decode(record.held, codec, self.total.size)
        if record.held is None:
            raise ValueError(f"nothing is held of worker {record.key}")
        return record.held


class RoundAggregate(Aggregate):
    """Error memory: ∇^k is the mean of this round's uploads, and nothing is reused.

    A worker whose upload is missing counts as 0; it keeps the rest in its e_m.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._incoming: F64 = np.zeros(size)

    def apply(self, record: Record, upload: Upload) -> None:
        """Add the upload to this round's sum."""
        _add(self._incoming, upload.decoded, record.weight)
        if not record.counted:
            self.weight += record.weight
            record.counted = True
        _accept(record, upload)

    def settle(self) -> None:
        """Take the sum of this round for S."""
        self.total, self._incoming = self._incoming, np.zeros_like(self.total)

    def remove(self, record: Record) -> None:
        """Count the worker no more; by its id it knows later what was accepted."""
        if record.counted:
            self.weight -= record.weight
            record.counted = False


class SumOnlyAggregate(Aggregate):
    """Only S is held: O(p) memory, whatever the number of workers.

    A worker that comes back without its h_m cannot be replaced in S. Its upload is
    set aside and it is gone; a new start drops S and begins with what was set aside.
    That cannot be replaced either: a worker that loses it or leaves before the new
    start has no id, and is gone after it as well.

    Attributes
    ----------
    aside : ndarray, shape (p,), float64
        Weighted sum of the uploads set aside.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.aside: F64 = np.zeros(size)

    def apply(self, record: Record, upload: Upload) -> None:
        """Add an innovation or a first upload; set aside what cannot be replaced."""
        if record.aside:
            record.id = None
            return
        if upload.kind == "full" and record.counted:
            _add(self.aside, upload.decoded, record.weight)
            record.gone = record.aside = True
        else:
            _add(self.total, upload.decoded, record.weight)
            record.sum_round = upload.round
            if not record.counted:
                self.weight += record.weight
                record.counted = True
        _accept(record, upload)

    def settle(self) -> None:
        """Nothing: S is up to date already."""

    def remove(self, record: Record) -> None:
        """Mark the worker gone: its h_m cannot be subtracted."""
        if record.counted:
            record.gone, record.id = True, None

    def is_overdue(self, records: list[Record], oldest: int, share: float) -> bool:
        """Return whether a new start is due.

        Parameters
        ----------
        records : list of Record
            All of them.
        oldest : int
            k − D: what a gone worker has in S must be of a later round.
        share : float
            How much of the workers may be gone.
        """
        gone = [record for record in records if record.gone]
        if any(record.sum_round <= oldest for record in gone):
            return True
        return len(gone) > share * sum(record.counted for record in records)

    def new_start(self, records: list[Record]) -> None:
        """Begin anew with the uploads that were set aside; all others are forgotten."""
        self.total, self.aside = self.aside, np.zeros_like(self.total)
        self.weight = 0.0
        for record in records:
            record.counted = record.aside
            record.gone = record.aside and record.id is None
            if record.aside:
                record.sum_round = record.round
                self.weight += record.weight
            else:
                record.id = None
            record.aside = False


def aggregate_for(settings: Settings, size: int) -> Aggregate:
    """Return what a server of these settings and p = `size` remembers."""
    if settings.memory == "error":
        return RoundAggregate(size)
    if settings.server_memory == "sum-only":
        return SumOnlyAggregate(size)
    return PerWorkerAggregate(size, settings.memory == "gradient")
