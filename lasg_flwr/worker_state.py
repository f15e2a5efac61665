"""A worker's state as bytes, and back: what a client saves before it answers."""

from typing import Any

from . import checkpoint
from .errors import CheckpointError
from .rules import Evidence
from .vectors import frozen
from .worker import Slot, WorkerState

VERSION = 1
_VECTORS = ("theta", "gradient", "snapshot", "delta")


def dump(state: WorkerState) -> bytes:
    """Serialise a worker's state; a vector that both slots share is stored once.

    Examples
    --------
    >>> state = WorkerState(answered=(bytes(16), 3))
    >>> load(dump(state)) == state
    True
    """
    arrays: checkpoint.Arrays = {}
    names: dict[int, str] = {}

    def store(vector: Any) -> str | None:
        if vector is None:
            return None
        if id(vector) not in names:
            names[id(vector)] = str(len(names))
            arrays[names[id(vector)]] = vector
        return names[id(vector)]

    def slot_out(slot: Slot | None) -> dict[str, Any] | None:
        if slot is None:
            return None
        vectors = {name: store(getattr(slot.evidence, name)) for name in _VECTORS}
        return {
            "id": slot.id.hex(),
            "round": slot.round,
            "h": store(slot.h),
            "lost": store(slot.lost),
            "period": slot.evidence.period,
            **vectors,
        }

    answered = state.answered
    meta = {
        "version": VERSION,
        "committed": slot_out(state.committed),
        "pending": slot_out(state.pending),
        "answered": None if answered is None else [answered[0].hex(), answered[1]],
    }
    return checkpoint.to_bytes(arrays, meta)


def load(data: bytes) -> WorkerState:
    """Restore a worker's state.

    Raises
    ------
    CheckpointError
        If the bytes are damaged or of another version. A worker without state is
        refreshed by the server, so starting anew is always safe.
    """
    try:
        arrays, meta = checkpoint.from_bytes(data)
        if meta["version"] != VERSION:
            raise ValueError(f"version {meta['version']!r}, expected {VERSION}")
        vectors = {name: frozen(array) for name, array in arrays.items()}
        answered = meta["answered"]
        return WorkerState(
            _slot_in(meta["committed"], vectors),
            _slot_in(meta["pending"], vectors),
            None if answered is None else (bytes.fromhex(answered[0]), answered[1]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"cannot read a worker's state: {error}") from None


def _slot_in(fields: dict[str, Any] | None, vectors: checkpoint.Arrays) -> Slot | None:
    if fields is None:
        return None

    def vector(name: str) -> Any:
        return None if fields[name] is None else vectors[fields[name]]

    kept = {name: vector(name) for name in _VECTORS}
    evidence = Evidence(**kept, period=fields["period"])
    return Slot(
        bytes.fromhex(fields["id"]),
        fields["round"],
        vector("h"),
        evidence,
        vector("lost"),
    )
