"""What the two state machines keep, as plain values: a checkpoint holds just this."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..ledger import Ledger
from ..memory import Sum
from ..vectors import F32, NO_BUFFERS
from .holds import BroadcastState
from .roster import StoredIterate, WorkerRecord
from .versions import HeldModel


class Slot(NamedTuple):
    """One upload, as the worker remembers it.

    Attributes
    ----------
    id : bytes, 16
        What the upload is known by, see `lasg_flwr.protocol.messages.upload_id`.
    round : int
        The round it was made in.
    rule : NamedTuple, optional
        What the rule keeps of it; it may change in later rounds, on skips as well.
    memory : NamedTuple, optional
        What the memory keeps of it.
    reference_round : int
        The round of the rule's reference point, where a second gradient is computed.
    config : dict, optional
        The user's config of that round.
    """

    id: bytes
    round: int
    rule: Any = None
    memory: Any = None
    reference_round: int = 0
    config: dict[str, Any] | None = None


class WorkerState(NamedTuple):
    """Everything that a worker keeps between rounds.

    Attributes
    ----------
    committed : Slot, optional
        The last upload that the server is known to have accepted.
    pending : Slot, optional
        A later upload that it may have accepted.
    answered : (bytes, int), optional
        Session and turn of the last request answered.
    model : HeldModel, optional
        The version of the model that the worker holds, where downloads are coded.
    trained : bytes, 16, optional
        Session of the last training request answered.
    """

    committed: Slot | None = None
    pending: Slot | None = None
    answered: tuple[bytes, int] | None = None
    model: HeldModel | None = None
    trained: bytes | None = None


@dataclass
class ServerState:
    """Everything that a server keeps between rounds; its session is never kept.

    Attributes
    ----------
    theta : ndarray, shape (p,), float32
        θ^k, read-only.
    sum : Sum
        What the memory keeps: S, W, and more.
    round : int
        k.
    buffers : ndarray, shape (B,), float32
        The model's buffers.
    step : NamedTuple, optional
        What the server's step keeps.
    squares : list of float
        The last d_max squared steps of θ, oldest first.
    workers : list of WorkerRecord
        What is kept of each worker, in key order.
    iterates : dict of int to StoredIterate
        θ of the rounds of uploads that PS and PSE still use.
    norms : dict of str to dict of int to float
        Lengths of the last uploads, by kind and key, for the norm filter.
    ledger : Ledger
        What was sent.
    broadcast : BroadcastState
        θ̂, and what is known of who holds it.
    """

    theta: F32
    sum: Sum
    round: int = 0
    buffers: F32 = field(default_factory=lambda: NO_BUFFERS)
    step: Any = None
    squares: list[float] = field(default_factory=list)
    workers: list[WorkerRecord] = field(default_factory=list)
    iterates: dict[int, StoredIterate] = field(default_factory=dict)
    norms: dict[str, dict[int, float]] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    broadcast: BroadcastState = field(default_factory=BroadcastState)
