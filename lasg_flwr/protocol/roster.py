"""Who the server knows: worker records, and the iterates stored for PS and PSE."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import DuplicateKeyError
from ..vectors import F32


@dataclass(slots=True)
class WorkerRecord:
    """What the server keeps of one worker.

    Attributes
    ----------
    key, node : int
        The worker's key and the node that it answers from.
    weight : float
        w_m, fixed at the worker's first acceptance.
    memory : NamedTuple
        What the memory keeps of it.
    rule : NamedTuple, optional
        What the rule keeps of it.
    accepted : bool
        Whether an upload of this worker was ever accepted.
    id : bytes, 16, or None
        Id of the last accepted upload; None: the next must be full.
    round : int
        Round of that upload: τ_m = k − round.
    heard : int
        Round of the worker's last valid answer, skips included.
    """

    key: int
    node: int | None
    weight: float
    memory: Any
    rule: Any = None
    accepted: bool = False
    id: bytes | None = None
    round: int = 0
    heard: int = 0


class Roster:
    """Worker records by key, and which node each key answers from.

    Examples
    --------
    >>> roster = Roster()
    >>> roster.add(WorkerRecord(key=3, node=77, weight=1.0, memory=None))
    >>> roster.at(77).key, roster.at(78)
    (3, None)
    """

    def __init__(self, records: Iterable[WorkerRecord] = ()) -> None:
        self.records: dict[int, WorkerRecord] = {}
        self._keys: dict[int, int] = {}
        for record in records:
            self.add(record)

    def add(self, record: WorkerRecord) -> None:
        """Add a record and bind its node."""
        self.records[record.key] = record
        if record.node is not None:
            self._keys[record.node] = record.key

    def introduce(self, record: WorkerRecord) -> None:
        """Add a record of a worker that must be new.

        Raises
        ------
        DuplicateKeyError
            If its key or node is taken.
        """
        if record.key in self.records or record.node in self._keys:
            raise DuplicateKeyError(
                f"two workers with key {record.key} or node {record.node}: give each "
                "worker its own key"
            )
        self.add(record)

    def at(self, node: int) -> WorkerRecord | None:
        """Return the record of the worker at `node`, if any is bound there."""
        key = self._keys.get(node)
        return None if key is None else self.records[key]

    @property
    def nodes(self) -> set[int]:
        """The nodes that a worker is bound to."""
        return set(self._keys)

    def order(self, node: int) -> tuple[bool, int]:
        """Return what nodes are sorted by: known workers by key, then strangers.

        Examples
        --------
        >>> roster = Roster()
        >>> roster.add(WorkerRecord(key=3, node=77, weight=1.0, memory=None))
        >>> sorted([5, 77], key=roster.order)
        [77, 5]
        """
        key = self._keys.get(node)
        return (True, node) if key is None else (False, key)

    def bound(self, key: int, node: int) -> WorkerRecord | None:
        """Return the record of the worker `key`, bound to `node` from now on."""
        record = self.records.get(key)
        if record is not None and record.node != node:
            if record.node is not None:
                self._keys.pop(record.node, None)
            record.node = node
            self._keys[node] = key
        return record

    def unbind(self, record: WorkerRecord) -> None:
        """Let go of a worker's node: it is another worker's, or nobody's."""
        if record.node is not None:
            self._keys.pop(record.node, None)
        record.node = None

    def sorted(self) -> list[WorkerRecord]:
        """Return all records in key order."""
        return [self.records[key] for key in sorted(self.records)]


class StoredIterate(NamedTuple):
    """θ of a round, and how many workers' last uploads are of that round."""

    theta: F32
    users: int


class IterateStore:
    """One stored θ for each distinct upload round still in use, reference-counted.

    Examples
    --------
    >>> import numpy as np
    >>> store = IterateStore()
    >>> for worker in range(2):
    ...     store.retain(5, np.zeros(3, "f4"))
    >>> store.release(5)
    >>> len(store)
    1
    >>> store.release(5)
    >>> len(store)
    0
    """

    def __init__(self, entries: Mapping[int, StoredIterate] | None = None) -> None:
        self.entries: dict[int, StoredIterate] = dict(entries or {})

    def __len__(self) -> int:
        return len(self.entries)

    def retain(self, round_: int, theta: F32) -> None:
        """Store θ of a round, or count one more user of it."""
        stored, users = self.entries.get(round_, (theta, 0))
        self.entries[round_] = StoredIterate(stored, users + 1)

    def release(self, round_: int) -> None:
        """Count one user less; forget θ with the last. Unknown rounds are ignored."""
        if round_ in self.entries:
            stored, users = self.entries.pop(round_)
            if users > 1:
                self.entries[round_] = StoredIterate(stored, users - 1)

    def drop_until(self, round_: int) -> None:
        """Forget everything of `round_` and before: a contact is forced by then."""
        for old in [r for r in self.entries if r <= round_]:
            del self.entries[old]

    def get(self, round_: int) -> F32 | None:
        """Return θ of a round, if still stored."""
        entry = self.entries.get(round_)
        return None if entry is None else entry.theta
