"""Who the server knows: worker records, and the iterates stored for PS and PSE."""

from dataclasses import dataclass

from .errors import DuplicateKeyError
from .vectors import F32


@dataclass(slots=True)
class Record:
    """What the server keeps of one worker.

    Attributes
    ----------
    key, node : int
        The worker's key and the node that it answers from.
    weight : float
        w_m, fixed at the worker's first acceptance.
    accepted : bool
        Whether an upload of this worker was ever accepted.
    id : bytes, 16, or None
        Id of the last accepted upload; None: the next must be full.
    round : int
        Round of that upload: τ_m = k − round.
    held : ndarray or bytes or None
        h_m, or under gradient memory its payload; None under sum-only memory.
    held_codec : str
        Codec of a held payload.
    counted : bool
        Whether an h_m of this worker is part of S.
    estimate : float or None
        L̂_m of equation (17) (PSE).
    gone : bool
        Sum-only memory: the worker lost its h_m, which stays in S for now.
    sum_round : int
        Sum-only memory: round of the h_m that is part of S.
    aside : bool
        Sum-only memory: an upload of this worker waits for the next new start.
    """

    key: int
    node: int | None
    weight: float
    accepted: bool = False
    id: bytes | None = None
    round: int = 0
    held: F32 | bytes | None = None
    held_codec: str = ""
    counted: bool = False
    estimate: float | None = None
    gone: bool = False
    sum_round: int = 0
    aside: bool = False


class Roster:
    """Worker records by key, and which node each key answers from.

    Examples
    --------
    >>> roster = Roster()
    >>> roster.add(Record(key=3, node=77, weight=1.0))
    >>> roster.at(77).key, roster.at(78)
    (3, None)
    """

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self._keys: dict[int, int] = {}

    def add(self, record: Record) -> None:
        """Add a record and bind its node."""
        self.records[record.key] = record
        if record.node is not None:
            self._keys[record.node] = record.key

    def introduce(self, record: Record) -> None:
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

    def at(self, node: int) -> Record | None:
        """Return the record of the worker at `node`, if any is bound there."""
        key = self._keys.get(node)
        return None if key is None else self.records[key]

    def order(self, node: int) -> tuple[bool, int]:
        """Return what nodes are sorted by: known workers by key, then strangers.

        Examples
        --------
        >>> roster = Roster()
        >>> roster.add(Record(key=3, node=77, weight=1.0))
        >>> sorted([5, 77], key=roster.order)
        [77, 5]
        """
        key = self._keys.get(node)
        return (True, node) if key is None else (False, key)

    def bind(self, record: Record, node: int) -> None:
        """Bind `record` to `node`, in place of its old node."""
        if record.node is not None:
            self._keys.pop(record.node, None)
        record.node = node
        self._keys[node] = record.key

    def sorted(self) -> list[Record]:
        """Return all records in key order."""
        return [self.records[key] for key in sorted(self.records)]


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

    def __init__(self) -> None:
        self._entries: dict[int, tuple[F32, int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def retain(self, round_: int, theta: F32) -> None:
        """Store θ of a round, or count one more user of it."""
        stored, users = self._entries.get(round_, (theta, 0))
        self._entries[round_] = (stored, users + 1)

    def release(self, round_: int) -> None:
        """Count one user less; forget θ with the last. Unknown rounds are ignored."""
        if round_ in self._entries:
            stored, users = self._entries.pop(round_)
            if users > 1:
                self._entries[round_] = (stored, users - 1)

    def drop_until(self, round_: int) -> None:
        """Forget everything of `round_` and before: a contact is forced by then."""
        for old in [r for r in self._entries if r <= round_]:
            del self._entries[old]

    def get(self, round_: int) -> F32 | None:
        """Return θ of a round, if still stored."""
        entry = self._entries.get(round_)
        return None if entry is None else entry[0]

    def items(self) -> list[tuple[int, F32, int]]:
        """Return (round, θ, users) of all entries, by round."""
        return [(r, *self._entries[r]) for r in sorted(self._entries)]

    def put(self, round_: int, theta: F32, users: int) -> None:
        """Restore an entry."""
        self._entries[round_] = (theta, users)
