"""Innovation memory whose server holds nothing but S: O(p), however many workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from ..vectors import F64
from .base import Member, Sum, Upload, accept, add
from .innovation import SendsInnovations


class Share(NamedTuple):
    """What the server knows of a worker's share in S.

    Attributes
    ----------
    in_sum : bool
        Whether an h_m of this worker is part of S.
    sum_round : int
        Round of that h_m.
    lost_state : bool
        Whether the worker lost that h_m, which stays in S for now.
    staged : bool
        Whether an upload of this worker waits for the next new start.
    """

    in_sum: bool = False
    sum_round: int = 0
    lost_state: bool = False
    staged: bool = False


@dataclass
class StagedSum(Sum):
    """S, and the weighted sum of the uploads that wait for a new start."""

    staged: F64 = field(kw_only=True)


@dataclass(frozen=True)
class SumOnly(SendsInnovations):
    """Send encode(g − h_m), also under a lossless codec; S ← S + w_m · decode.

    The worker keeps h_m in float64: in float32 the two sides would drift. A worker that
    comes back without its h_m cannot be replaced in S. Its upload is staged, and its
    state counts as lost; a new start drops S and begins with what is staged. A staged
    upload cannot be replaced either: a worker that loses it or leaves before the new
    start has no id, and its state is lost after it as well.
    """

    held: ClassVar[str] = "sum-only"
    precision = np.float64
    member_state = Share
    sum_state = StagedSum

    @property
    def sends_innovations(self) -> bool:
        """True."""
        return True

    def later_full_codec(self, codec: str) -> str:
        """Return "dense": a new start is built from full uploads alone."""
        return "dense"

    def start(self, size: int) -> StagedSum:
        """Return an empty sum."""
        return StagedSum(np.zeros(size), staged=np.zeros(size))

    def waits(self, member: Member) -> bool:
        """Return whether the worker has lost its state."""
        return bool(member.memory.lost_state)

    def apply(self, state: StagedSum, member: Member, upload: Upload) -> None:
        """Add an innovation or a first upload; stage what cannot be replaced."""
        known: Share = member.memory
        if known.staged:
            member.id = None
            return
        if upload.kind == "full" and known.in_sum:
            add(state.staged, upload.decoded, member.weight)
            member.memory = known._replace(lost_state=True, staged=True)
        else:
            add(state.total, upload.decoded, member.weight)
            if not known.in_sum:
                state.weight += member.weight
            member.memory = known._replace(in_sum=True, sum_round=upload.round)
        accept(member, upload)

    def settle(self, state: StagedSum) -> None:
        """Nothing: S is up to date already."""

    def remove(self, state: StagedSum, member: Member) -> None:
        """Mark the worker's state lost: its h_m cannot be subtracted."""
        if member.memory.in_sum:
            member.memory = member.memory._replace(lost_state=True)
            member.id = None

    def new_start(
        self,
        state: StagedSum,
        members: Callable[[], Sequence[Member]],
        oldest: int,
        lost_share: float,
    ) -> list[Member] | None:
        """Begin anew with the staged uploads; all others are forgotten.

        It is due once what a worker without state has in S is of round `oldest` or
        before, or more than `lost_share` of the workers have lost theirs.
        """
        known = members()
        lost = [member.memory for member in known if member.memory.lost_state]
        overdue = any(share.sum_round <= oldest for share in lost)
        counted = sum(member.memory.in_sum for member in known)
        if not overdue and len(lost) <= lost_share * counted:
            return None
        forgotten = [member for member in known if not member.memory.staged]
        state.total, state.staged = state.staged, np.zeros_like(state.total)
        state.weight = 0.0
        for member in known:
            if member.memory.staged:
                member.memory = Share(True, member.round, member.id is None)
                state.weight += member.weight
            else:
                member.memory = Share()
        return forgotten
