"""An independent model of what the server holds.

What each accepted upload *is* is found by decoding the replies that the server kept,
not by looking into the server.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lasg_flwr.protocol import LasgWorker, Slot, WorkerState
from lasg_flwr.protocol.messages import Reply, Request
from lasg_flwr.vectors import F32, F64
from tests.problems.protocol.setups import SIZE


@dataclass(frozen=True)
class Letter:
    """A reply on its way: where from, what it answers, the worker's state then."""

    node: int
    reply: Reply
    request: Request
    worker: LasgWorker
    state: WorkerState


@dataclass(frozen=True)
class Held:
    """An accepted upload: what the worker noted of it, and what it decodes to."""

    noted: Slot
    h: F32 | F64
    theta: F32
    round: int
    full: bool


@dataclass
class Known:
    """The model of a server's record.

    `last` is what its id stands for, `in_sum` what is in S, `staged` what waits for
    a new start.
    """

    weight: float
    last: Held | None = None
    in_sum: Held | None = None
    staged: Held | None = None
    lost_state: bool = False
    round: int = 0


@dataclass
class Model:
    """The model of a server between two rounds."""

    known: dict[int, Known] = field(default_factory=dict)

    def total(self) -> tuple[F64, float, float]:
        """Return Σ w h, Σ w, and the scale Σ w ‖h‖."""
        total, weight, scale = np.zeros(SIZE), 0.0, 0.0
        for known in self.known.values():
            if known.in_sum is not None:
                h = known.in_sum.h.astype(np.float64)
                total += known.weight * h
                weight += known.weight
                scale += known.weight * float(np.linalg.norm(h))
        return total, weight, scale

    def accept(self, key: int, held: Held, weight: float, sum_only: bool) -> None:
        """Take in a kept upload."""
        known = self.known.setdefault(key, Known(weight))
        stuck = sum_only and held.full and known.in_sum is not None
        if stuck and known.staged is not None:
            known.last = None
            return
        if stuck:
            known.staged, known.lost_state = held, True
        else:
            known.in_sum = held
        known.last, known.round = held, held.round

    def leave(self, key: int, sum_only: bool) -> None:
        """A worker is taken out."""
        known = self.known[key]
        if not sum_only:
            known.in_sum = None
        known.lost_state = sum_only and known.in_sum is not None
        known.last = None

    def expire(self, round_: int, max_delay: int, sum_only: bool) -> None:
        """Whoever was not refreshed for 2D rounds is taken out."""
        for key, known in self.known.items():
            held = known.in_sum is not None and not known.lost_state
            if held and round_ - known.round >= 2 * max_delay:
                self.leave(key, sum_only)

    def new_start(self, round_: int, max_delay: int, share: float) -> bool:
        """Begin anew if it is time; return whether."""
        lost_state = [known for known in self.known.values() if known.lost_state]
        members = [known for known in self.known.values() if known.in_sum]
        overdue = any(
            round_ - known.in_sum.round >= max_delay
            for known in lost_state
            if known.in_sum
        )
        if not lost_state or not (overdue or len(lost_state) > share * len(members)):
            return False
        for known in self.known.values():
            known.in_sum, known.staged = known.staged, None
            if known.in_sum is None:
                known.last = None
            known.lost_state = known.in_sum is not None and known.last is None
        return True


@dataclass(frozen=True)
class Checkpoint:
    """A server's saved state, with the model of that moment."""

    arrays: dict[str, Any]
    meta: dict[str, Any]
    model: Model
    theta: F32
    sent: F32


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal to the bit; arrays by dtype and content."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    return type(a) is type(b) and bool(a == b)
