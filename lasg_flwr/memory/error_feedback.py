"""Error feedback (sparse local SGD): what an upload leaves out goes into the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ..codecs import Codec, spec_of
from ..errors import CodecSizeError
from ..vectors import F32, F64, frozen
from .base import (
    Encoded,
    Generators,
    Member,
    Members,
    Memory,
    Slots,
    Sum,
    Upload,
    accept,
    add,
    encoded_decoded,
)


class Residual(NamedTuple):
    """What the worker keeps: e_m if this upload is accepted, and if it is lost."""

    accepted: F64
    lost: F64


class Heard(NamedTuple):
    """What the server keeps of a worker: whether it has ever been heard."""

    in_sum: bool = False


@dataclass
class RoundSum(Sum):
    """S and W of the last round, and what this one has brought so far."""

    incoming: F64 | None = None
    incoming_weight: float = 0.0


@dataclass(frozen=True)
class ErrorFeedback(Memory):
    """Send encode(e_m + u); e_m ← e_m + u − decode, in float64.

    ∇^k is the mean over the workers whose uploads arrived in this round, with the
    weights that they have now, as federated averaging takes it; nothing is reused. A
    worker that was not asked, or whose upload was lost, does not count; what it has to
    say stays in its e_m. A round without uploads does not move θ. A merely unbiased
    codec is damped, as error feedback needs a contraction.
    """

    name: ClassVar[str] = "error-feedback"
    held: ClassVar[str] = "per-worker"
    worker_state = Residual
    member_state = Heard
    sum_state = RoundSum
    damps_full: ClassVar[bool] = True
    weighs_anew: ClassVar[bool] = True

    def check(self, codecs: Sequence[Codec], decided_by: str) -> None:
        """Raise ValueError for a rule that skips: there is nothing to reuse."""
        if decided_by != "nobody":
            raise ValueError(
                "error memory reuses nothing, so a rule of this kind cannot skip: "
                "choose rule='sgd', or memory='innovation'"
            )

    def check_size(self, codecs: Sequence[Codec], size: int) -> None:
        """Raise `CodecSizeError` if a codec keeps more coordinates than there are."""
        super().check_size(codecs, size)
        for codec in codecs:
            k = codec.most_kept
            if k is not None and k > size:
                raise CodecSizeError(
                    f"codec {spec_of(codec)!r} keeps more coordinates than the model "
                    f"has: choose k in [1, {size}], or a fraction in (0, 1]"
                )

    def encode(
        self, codec: Codec, g: F32, slots: Slots[Residual], rng: Generators
    ) -> Encoded:
        """Encode e_m + g."""
        e = _residual(slots)
        total = g.astype(np.float64) if e is None else e + g
        x = total.astype(np.float32)
        gain = codec.innovation_gain(x.size)
        payload, decoded = encoded_decoded(codec, x, gain, rng)
        return Encoded(
            "full", payload, Residual(frozen(total - decoded), frozen(total))
        )

    def apply(self, state: RoundSum, member: Member, upload: Upload) -> None:
        """Add the upload to this round's sum."""
        if state.incoming is None:
            state.incoming = np.zeros_like(state.total)
        add(state.incoming, upload.decoded, member.weight)
        state.incoming_weight += member.weight
        member.memory = Heard(True)
        accept(member, upload)

    def settle(self, state: RoundSum, members: Members) -> None:
        """Take this round's sums for S and W."""
        arrived, state.incoming = state.incoming, None
        state.total = np.zeros_like(state.total) if arrived is None else arrived
        state.weight, state.incoming_weight = state.incoming_weight, 0.0

    def remove(self, state: RoundSum, member: Member, members: Members) -> None:
        """Forget the worker; by its id it knows later what was accepted."""
        member.memory = Heard()


def _residual(slots: Slots[Residual]) -> F64 | None:
    """Return e_m: what past uploads of this run left out, lost ones included."""
    if slots.base is None and not slots.same_run:
        return None  # the state is another run's
    if slots.pending is not None:
        return slots.pending.accepted if slots.accepted else slots.pending.lost
    return None if slots.committed is None else slots.committed.accepted
