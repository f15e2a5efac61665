"""Innovation memory whose server holds nothing but S: O(p), however many workers."""

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from ..vectors import F32, F64
from .base import Member, Members, Sum, Upload, accept
from .exact import add_exactly
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
    relapses : int
        How many new starts in a row it has caused.
    """

    in_sum: bool = False
    sum_round: int = 0
    lost_state: bool = False
    staged: bool = False
    relapses: int = 0


@dataclass
class StagedSum(Sum):
    """S, and the weighted sum of the uploads that wait for a new start; both exact.

    Attributes
    ----------
    rest : list of ndarray, shape (p,), float64
        What float64 rounds away of S, see `lasg_flwr.memory.exact`.
    staged : ndarray, shape (p,), float64
        The other sum.
    staged_rest : list of ndarray
        What float64 rounds away of it.
    """

    staged: F64 = field(kw_only=True)
    rest: list[F64] = field(default_factory=list)
    staged_rest: list[F64] = field(default_factory=list)

    def add(self, x: F32, weight: float) -> None:
        """Add w·x to S."""
        parts = [self.total, *self.rest]
        add_exactly(parts, x, weight)
        self.rest = parts[1:]

    def stage(self, x: F32, weight: float) -> None:
        """Add w·x to the staged sum."""
        parts = [self.staged, *self.staged_rest]
        add_exactly(parts, x, weight)
        self.staged_rest = parts[1:]

    def renew(self) -> None:
        """Take the staged sum for S."""
        self.total, self.staged = self.staged, np.zeros_like(self.total)
        self.rest, self.staged_rest = self.staged_rest, []
        self.weight = 0.0


@dataclass(frozen=True)
class SumOnly(SendsInnovations):
    """Send encode(g − h_m), also under a lossless codec; S ← S + w_m · decode.

    The worker keeps h_m, and the server S, without any rounding: in float32 or float64
    the two sides would drift, and a spike would leave its mark for good. A worker that
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

    def rests(self, member: Member, round_: int) -> bool:
        """Return whether fewer than 2^(r−1) rounds have passed after r new starts.

        A worker that never keeps its state would cause one in every round.
        """
        relapses = min(int(member.memory.relapses), 30)
        return relapses > 1 and round_ < member.round + (1 << (relapses - 1))

    def apply(self, state: StagedSum, member: Member, upload: Upload) -> None:
        """Add an innovation or a first upload; stage what cannot be replaced."""
        known: Share = member.memory
        if known.staged:
            member.id = None
            return
        if upload.kind == "full" and known.in_sum:
            state.stage(upload.decoded, member.weight)
            member.memory = known._replace(lost_state=True, staged=True)
        else:
            state.add(upload.decoded, member.weight)
            if not known.in_sum:
                state.weight += member.weight
            relapses = known.relapses if upload.kind == "full" else 0
            member.memory = Share(True, upload.round, relapses=relapses)
        accept(member, upload)

    def settle(self, state: StagedSum, members: Members) -> None:
        """Nothing: S is up to date already."""

    def remove(self, state: StagedSum, member: Member, members: Members) -> None:
        """Mark the worker's state lost: its h_m cannot be subtracted."""
        if member.memory.in_sum:
            member.memory = member.memory._replace(lost_state=True)
            member.id = None

    def new_start(
        self,
        state: StagedSum,
        members: Members,
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
        state.renew()
        for member in known:
            if member.memory.staged:
                relapses = member.memory.relapses + 1
                without = member.id is None
                member.memory = Share(True, member.round, without, False, relapses)
                state.weight += member.weight
            else:
                member.memory = Share(relapses=member.memory.relapses)
        return forgotten
