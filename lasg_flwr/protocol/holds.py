"""What a server keeps of the versions of the model, and of who holds which."""

from dataclasses import dataclass, field
from typing import NamedTuple

from ..vectors import F32


class RingStep(NamedTuple):
    """A step of θ̂ that is still kept: the versions before and after it, its bytes."""

    before: bytes
    after: bytes
    payload: bytes


class Hold(NamedTuple):
    """What a node last said that it holds.

    Attributes
    ----------
    id : bytes, 16, or None
        The version; None for none.
    turn : int
        The batch of requests that this was said in; −1 in a session before this one.
    doubts : int
        How often in a row it refused a request for want of its model.
    dense : int
        How many of its next requests carry the dense model whatever it says.
    """

    id: bytes | None
    turn: int = -1
    doubts: int = 0
    dense: int = 0


@dataclass
class BroadcastState:
    """Everything of it that a checkpoint holds.

    Attributes
    ----------
    theta : ndarray, shape (p,), float32, optional
        θ̂; None where it is θ itself.
    buffers : ndarray, shape (B,), float32, optional
        The buffers that go with it; None likewise.
    ring : list of RingStep
        The last steps, oldest first.
    holds : dict of int to Hold
        By node.
    """

    theta: F32 | None = None
    buffers: F32 | None = None
    ring: list[RingStep] = field(default_factory=list)
    holds: dict[int, Hold] = field(default_factory=dict)
