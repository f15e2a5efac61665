"""States as bytes, and back: what clients save before they answer, and checkpoints."""

import copy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config import Settings
from ..errors import CheckpointError
from ..rules.threshold import StepHistory
from . import files
from .roster import IterateStore, Roster, WorkerRecord
from .state import ServerState, Slot, WorkerState
from .tree import Hints, Packer, Unpacker

if TYPE_CHECKING:
    from .server import LasgServer

WORKER_VERSION = 3
SERVER_VERSION = 4


def dump_worker(state: WorkerState, settings: Settings) -> bytes:
    """Serialise a worker's state; a vector that both slots share is stored once."""
    packer = Packer()
    meta = {
        "version": WORKER_VERSION,
        "settings": asdict(settings),
        "state": packer.pack(state),
    }
    return files.to_bytes(packer.arrays, meta)


def load_worker(data: bytes, settings: Settings | None = None) -> WorkerState:
    """Restore a worker's state.

    Parameters
    ----------
    data : bytes
        What `dump_worker` returned.
    settings : Settings, optional
        The run's; left out, those that the state was saved with.

    Raises
    ------
    CheckpointError
        If the bytes are damaged, of another version, or of another rule or memory. A
        worker without state is refreshed by the server, so starting anew is safe.
    """
    arrays, meta = files.from_bytes(data)
    what = "a worker's state"
    if meta.get("version") != WORKER_VERSION:
        raise CheckpointError(
            f"cannot read {what}: its version is {meta.get('version')!r}, expected "
            f"{WORKER_VERSION!r}"
        )
    try:
        saved = Settings(**meta["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"cannot read {what}: {error!r}") from None
    for name, value in _kind_of(settings or saved).items():
        if (found := _kind_of(saved)[name]) != value:
            raise CheckpointError(
                f"cannot read {what}: its {name} is {found!r}, expected {value!r}"
            )
    hints: Hints = {
        (Slot, "rule"): saved.rule_object.worker_state,
        (Slot, "memory"): saved.memory_object.worker_state,
    }
    return WorkerState(*_unpacked(arrays, meta.get("state"), WorkerState, hints, what))


def _kind_of(settings: Settings) -> dict[str, str]:
    """Return what decides the form of a worker's state."""
    return {
        "rule": settings.rule_object.name,
        "memory": settings.memory,
        "server_memory": settings.server_memory,
    }


def knows(data: bytes, upload_id: bytes | None, has_model: bool) -> bool:
    """Return whether a saved worker state has an upload, or any model, of use."""
    _, meta = files.from_bytes(data)
    try:
        slots = meta["state"]["fields"]
        if has_model and slots["model"] is not None:
            return True
        for name in ("committed", "pending"):
            slot = slots[name]
            if slot is None or upload_id is None:
                continue
            if slot["fields"]["id"]["hex"] == upload_id.hex():
                return True
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"cannot read a worker's state: {error!r}") from None
    return False


class Capture(NamedTuple):
    """A server's state, ready to be written: arrays, and JSON-ready values."""

    arrays: files.Arrays
    meta: dict[str, Any]


def capture(server: "LasgServer") -> Capture:
    """Return everything that a server needs to go on; the session is left out.

    What is returned does not change when the server goes on, so it may be written
    later.

    Raises
    ------
    LasgError
        While a round is open.
    """
    server.check_between_rounds("save the server")
    state = ServerState(
        theta=server.theta,
        sum=server.sum,
        round=server.round,
        buffers=server.buffers,
        step=server.step_state,
        squares=list(server.history.squares),
        workers=server.roster.sorted(),
        iterates=server.iterates.entries,
        norms=server.norm_filter.norms,
        ledger=server.ledger,
        broadcast=server.broadcast.state(),
    )
    packer = Packer()
    meta = {
        "version": SERVER_VERSION,
        "fingerprint": _fingerprint(server),
        "state": packer.pack(state),
    }
    return Capture(packer.arrays, meta)


def _fingerprint(server: "LasgServer") -> dict[str, Any]:
    """Return everything that decides a run, the model's size included."""
    model = {"size": server.theta.size, "buffers": server.buffers.size}
    return {**server.config.fingerprint(), **model}


def restore(server: "LasgServer", captured: Capture, new_rate: bool = False) -> None:
    """Put a captured state into a new server made with the same arguments.

    Parameters
    ----------
    server : LasgServer
        The new one.
    captured : Capture
        What `capture` returned.
    new_rate : bool (default: False)
        Whether the learning rate, and c where it follows from it, may differ.

    Raises
    ------
    CheckpointError
        If the captured state is of another model, config or version; the server is
        left as it was.
    """
    arrays, meta = captured
    _check_fingerprint(server, meta, new_rate)
    hints: Hints = {
        (ServerState, "sum"): server.memory.sum_state,
        (ServerState, "step"): server.step.state,
        (WorkerRecord, "rule"): server.rule.server_state,
        (WorkerRecord, "memory"): server.memory.member_state,
    }
    what = "the checkpoint"
    state: ServerState = _unpacked(arrays, meta.get("state"), ServerState, hints, what)
    server.theta, server.round, server.ledger = state.theta, state.round, state.ledger
    server.sum = copy.deepcopy(state.sum)  # it is changed in place
    server.step_state = state.step
    server.buffer_mean.values = state.buffers
    server.broadcast.restore(state.broadcast, state.theta, state.buffers)
    server.history = StepHistory(server.rule.d_max, state.squares)
    server.norm_filter.norms = state.norms
    server.roster = Roster(state.workers)
    server.iterates = IterateStore(state.iterates)


def _check_fingerprint(
    server: "LasgServer", meta: dict[str, Any], new_rate: bool
) -> None:
    found = {"version": meta.get("version"), **(meta.get("fingerprint") or {})}
    wanted = {"version": SERVER_VERSION, **_fingerprint(server)}
    for name in sorted({*found, *wanted}, key=lambda n: (n != "version", n)):
        rate = name == "learning_rate"
        if found.get(name) == wanted.get(name) or (new_rate and rate):
            continue
        hint = ", or pass resume='new-rate'" if rate else ""
        raise CheckpointError(
            f"the checkpoint's {name} is {found.get(name)!r}, this server's is "
            f"{wanted.get(name)!r}: resume with what it was saved with{hint}"
        )


def save_server(server: "LasgServer", path: Path) -> None:
    """Write a checkpoint of `server` to `path`, atomically."""
    files.write(path, files.to_bytes(*capture(server)))


def load_server(server: "LasgServer", path: Path) -> None:
    """Restore `server` from the checkpoint at `path`; see `restore`."""
    restore(server, Capture(*files.read(path)))


def _unpacked(
    arrays: files.Arrays, node: Any, cls: type[Any], hints: Hints, what: str
) -> Any:
    try:
        value = Unpacker(arrays, hints).unpack(node, cls)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"cannot read {what}: {error!r}") from None
    if not isinstance(value, cls):
        raise CheckpointError(f"cannot read {what}: it is incomplete")
    return value
