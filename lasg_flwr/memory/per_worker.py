"""The server's half that holds every h_m, shared by innovation and gradient memory."""

from abc import abstractmethod
from dataclasses import dataclass
from math import fsum, sqrt
from typing import ClassVar, NamedTuple

import numpy as np

from ..codecs import codec_from, wire
from ..vectors import F32, approximate_norm, frozen
from .base import Member, Members, Memory, Sum, Upload, accept, add
from .weighted import WeightedSum

ROUNDING = 2.0**-52
"""Relative error of an addition in float64, and some."""

TOLERANCE = 1e-10
"""Largest error of S, relative to Σ w ‖h‖: a tenth of what is promised."""


class Held(NamedTuple):
    """What the server keeps of one worker.

    Attributes
    ----------
    in_sum : bool
        Whether h_m is part of S.
    h : ndarray, shape (p,), optional
        h_m, as a vector.
    payload, codec : bytes, str
        Or the bytes that it came in, and what they are encoded with.
    length : float
        ‖h_m‖.
    """

    in_sum: bool = False
    h: F32 | None = None
    payload: bytes = b""
    codec: str = ""
    length: float = 0.0


@dataclass
class HeldSum(Sum):
    """S, and the round's changes to it.

    Attributes
    ----------
    members : int
        How many workers are part of S.
    replaced : int
        How many of them this round has brought.
    incoming, outgoing : WeightedSum, optional
        What this round adds and takes away.
    moved : float
        Σ w ‖·‖ of all that was added or taken away since the last `settle`.
    error : float
        About how far rounding may have moved S from Σ w h, in the Euclidean norm.
    """

    members: int = 0
    replaced: int = 0
    incoming: WeightedSum | None = None
    outgoing: WeightedSum | None = None
    moved: float = 0.0
    error: float = 0.0


class PerWorker(Memory):
    """Every h_m is held, so any upload can replace it and any worker can leave.

    A round in which every worker replaces its h_m builds S anew from zero, in key
    order: that is how `Always` with `Dense` comes out as SGD to the bit.
    """

    held: ClassVar[str] = "per-worker"
    member_state = Held
    sum_state = HeldSum

    @abstractmethod
    def keep(self, h: F32, upload: Upload) -> Held:
        """Return what to hold of an upload that decodes to `h`."""

    def apply(self, state: HeldSum, member: Member, upload: Upload) -> None:
        """Replace or add the worker's h_m."""
        if state.incoming is None:
            state.incoming = WeightedSum(state.total.size)
            state.outgoing = WeightedSum(state.total.size)
        new = upload.decoded
        if member.memory.in_sum:
            old = held_by(member, state.total.size)
            if state.outgoing is not None:
                state.outgoing.add(old, member.weight)
            state.moved += member.weight * member.memory.length
            if upload.kind == "innovation":
                new = frozen(old + new)
        else:
            state.weight += member.weight
            state.members += 1
        state.replaced += 1
        state.incoming.add(new, member.weight)
        member.memory = self.keep(new, upload)
        state.moved += member.weight * member.memory.length
        accept(member, upload)

    def settle(self, state: HeldSum, members: Members) -> None:
        """Set S to Σ w h: from zero if all were replaced, else S − old + new."""
        if state.incoming is None:
            return
        if state.replaced == state.members:
            state.total, state.error = state.incoming.total(), 0.0
        else:
            if state.outgoing is not None and state.outgoing:
                state.total -= state.outgoing.total()
            state.total += state.incoming.total()
        state.incoming = state.outgoing = None
        state.replaced = 0
        _bound_error(state, members)

    def remove(self, state: HeldSum, member: Member, members: Members) -> None:
        """Subtract the worker's h_m."""
        if member.memory.in_sum:
            add(state.total, held_by(member, state.total.size), -member.weight)
            state.moved += member.weight * member.memory.length
            state.weight -= member.weight
            state.members -= 1
        member.memory, member.id = Held(), None
        _bound_error(state, members)


def _bound_error(state: HeldSum, members: Members) -> None:
    """Build S anew once rounding may have left more than `TOLERANCE` in it.

    What large vectors that came and went leave behind is small only next to them.
    """
    if not state.moved:
        return
    held = [member for member in members() if member.memory.in_sum]
    scale = fsum(member.weight * member.memory.length for member in held)
    rounding = ROUNDING * sqrt(state.members + 1)
    state.error += rounding * (state.moved + scale)
    state.moved = 0.0
    if state.error <= TOLERANCE * scale:
        return
    state.total, state.error = np.zeros_like(state.total), rounding * scale
    for member in held:
        add(state.total, held_by(member, state.total.size), member.weight)


def length(h: F32) -> float:
    """Return ‖h‖, as precisely as the bound on the error of S needs it."""
    return approximate_norm(h)


def held_by(member: Member, size: int) -> F32:
    """Return h_m of a worker that is part of S.

    Raises
    ------
    ValueError
        If nothing is held of it.
    """
    kept: Held = member.memory
    if kept.h is not None:
        return kept.h
    if not kept.payload:
        raise ValueError(f"nothing is held of worker {member.key}")
    return wire.decode(kept.payload, codec_from(kept.codec), size)
