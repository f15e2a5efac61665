"""Where a Flower client keeps its worker's state: in its Context, or in a file.

Flower keeps `Context.state` in memory, pushes it after the reply, and drops a push that
takes more than five seconds without a word. Large state therefore goes into a file of
the node, and the Context only says where. The node's configuration decides:

| key | value |
|---|---|
| ``lasg-state`` | ``"auto"`` (a file above the threshold), ``"file"``, ``"memory"`` |
| ``lasg-state-dir`` | folder; default ``$XDG_STATE_HOME/lasg-flwr`` |
| ``lasg-state-threshold-mib`` | threshold in MiB, default 32 |

Below the folder each run has a folder of its own, and in it each worker has one file.
A run that is resumed takes over the file of the run before it; files that nobody
touched for 30 days are removed when their worker takes part in another run.
A state of the wrong run or of an earlier time does no harm: uploads are known by ids,
and a worker without the upload that the server means is refreshed.
"""

import os
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from logging import DEBUG, WARNING
from pathlib import Path
from typing import Protocol

from flwr.app import Context
from flwr.common import log

from ..checks import real
from ..config import Settings
from ..errors import CheckpointError, StateFolderError
from ..protocol import WorkerState, files, opening, saving
from ..protocol.heads import Head
from .cleaning import forget, forget_old
from .context_state import STATE_KEY as STATE_KEY
from .context_state import load_state as load_state
from .context_state import save_state, save_state_place

THRESHOLD_MIB = 32
LOCK_SECONDS = 1.0
"""How long a client waits for another that is about to end."""

_REMEDY = (
    "name a folder that this process may write to in lasg-state-dir, or set lasg-state "
    "to 'memory'"
)


class StateStore(Protocol):
    """Loads a worker's state before a fit and saves it after; see `store_for`."""

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes out for the time of a fit."""

    def load(self, head: Head, settings: Settings | None) -> WorkerState | None:
        """Return the state for a request, if there is one that can be read."""

    def save(self, state: WorkerState, settings: Settings) -> None:
        """Keep `state`."""


def default_folder() -> Path:
    """Return ``$XDG_STATE_HOME/lasg-flwr``, by default below ``~/.local/state``.

    Raises
    ------
    StateFolderError
        If there is no home folder, as in a container.
    """
    home = os.environ.get("XDG_STATE_HOME")
    return _expanded(home or "~/.local/state") / "lasg-flwr"


def _expanded(folder: str) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise StateFolderError(f"{folder!r}: {error}; {_REMEDY}") from None


class StateFile:
    """One worker's state in one file: atomic replace, version and checksum inside.

    Parameters
    ----------
    folder : Path
        The node's folder.
    run_id : int
        Flower's id of the run.
    key : int
        The worker's key.
    """

    def __init__(self, folder: Path, run_id: int, key: int) -> None:
        self.folder = folder
        self.path = folder / f"run-{run_id}" / f"worker-{key}.safetensors"
        self._taken_over: Path | None = None

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes off this file; the system frees a dead one's lock.

        Raises
        ------
        StateInUseError
            If another process has it for longer than `LOCK_SECONDS`.
        """
        refusal = (
            f"another process is using the worker state {self.path}: give each "
            "SuperNode a partition-id, or a lasg-state-dir, of its own"
        )
        return files.locked(self.path.with_suffix(".lock"), LOCK_SECONDS, refusal)

    def load(self, head: Head, settings: Settings | None) -> WorkerState | None:
        """Return the state in the file.

        A run that is resumed has a new run id: if this run has no file yet but the
        server knows an upload or a model, the file of an earlier run is looked into.

        Parameters
        ----------
        head : Head
            Of the request: it says which upload the server builds on.
        settings : Settings, optional
            The run's, where they came along.

        Raises
        ------
        CheckpointError
            If the file is damaged, of another version, or of another rule or memory.
        """
        if self.path.exists():
            data = opening.read_bytes(self.path)
        else:
            data = self._of_earlier_run(head)
        if not data:
            return None
        try:
            return saving.load_worker(data, settings)
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}: {error}") from None

    def _of_earlier_run(self, head: Head) -> bytes:
        if head.accepted_id is None and not head.has_path:
            return b""
        found = self.folder.glob(f"run-*/{self.path.name}")
        for path in sorted(found, key=lambda p: p.stat().st_mtime, reverse=True)[:3]:
            with suppress(OSError, CheckpointError):
                data = opening.read_bytes(path)
                if saving.knows(data, head.accepted_id, head.has_path):
                    self._taken_over = path
                    return data
        return b""

    def write(self, data: bytes) -> None:
        """Replace the file; it holds all that the one of an earlier run did."""
        is_new = not self.path.exists()
        files.write(self.path, data)
        if is_new:
            forget_old(self.path)
        if self._taken_over is not None:
            forget(self._taken_over)
            self._taken_over = None


class ContextStore:
    """A worker's state in `Context.state`, or behind it in a file.

    Parameters
    ----------
    context : Context
        What Flower hands to ``client_fn``.
    key : int
        The worker's key.

    Raises
    ------
    ValueError
        If the node's configuration is not as described in this module.
    """

    def __init__(self, context: Context, key: int) -> None:
        config = context.node_config
        self._context = context
        self.mode = config.get("lasg-state", "auto")
        if self.mode not in ("auto", "file", "memory"):
            raise ValueError(
                f"lasg-state must be 'auto', 'file' or 'memory', got {self.mode!r}"
            )
        mib = config.get("lasg-state-threshold-mib", THRESHOLD_MIB)
        threshold = real("lasg-state-threshold-mib", mib, least=0)
        self.threshold_bytes = threshold * 2**20
        self._folder = str(config.get("lasg-state-dir", ""))
        self._key = key

    @cached_property
    def file(self) -> StateFile:
        """The file; in mode ``"memory"`` it is never looked for.

        Raises
        ------
        StateFolderError
            If there is no folder for it, as in a container without a home.
        """
        folder = _expanded(self._folder) if self._folder else default_folder()
        return StateFile(folder, self._context.run_id, self._key)

    def locked(self) -> AbstractContextManager[None]:
        """Lock the file, where there is one or must be one."""
        if self.mode == "file" or self._has_file():
            return self.file.locked()
        return nullcontext()

    def load(self, head: Head, settings: Settings | None) -> WorkerState | None:
        """Return the state: the file's if there is one, else the Context's.

        A state that cannot be read is none: the server refreshes the worker.
        """
        try:
            data = load_state(self._context.state)
            if self.mode == "file" or self._has_file():
                return self.file.load(head, settings)
            if data is not None:
                return saving.load_worker(data, settings)
            return None if self.mode == "memory" else self.file.load(head, settings)
        except StateFolderError as error:
            log(DEBUG, "lasg: %s", error)
            return None
        except (CheckpointError, OSError) as error:
            log(WARNING, "lasg: %s; starting anew, the server will refresh it", error)
            return None

    def save(self, state: WorkerState, settings: Settings) -> None:
        """Keep `state`; once it is in a file it stays there."""
        data = saving.dump_worker(state, settings)
        if self._goes_to_file(len(data)) and self._written(data):
            session, turn = state.answered or (b"", 0)
            place = str(self.file.path)
            save_state_place(self._context.state, place, session, turn)
        else:
            save_state(self._context.state, data)

    def _written(self, data: bytes) -> bool:
        """Write the file; False if that fails where memory would do as well."""
        try:
            self.file.write(data)
            return True
        except OSError as error:
            if self.mode == "file":
                raise StateFolderError(
                    f"the worker's state cannot be saved: {error}; {_REMEDY}"
                ) from error
            log(
                WARNING,
                "lasg: a worker state of %d bytes stays in memory, where Flower may "
                "lose it: %s; %s",
                len(data),
                error,
                _REMEDY,
            )
            return False

    def _goes_to_file(self, size: int) -> bool:
        if self.mode != "auto":
            return self.mode == "file"
        return size > self.threshold_bytes or self._has_file()

    def _has_file(self) -> bool:
        try:
            return self.mode != "memory" and self.file.path.exists()
        except OSError:  # no home, or a folder that may not be searched
            return False


class ObjectStore:
    """Keeps the state in this object: for clients without a Context."""

    def __init__(self) -> None:
        self._kept: WorkerState | None = None

    def locked(self) -> AbstractContextManager[None]:
        """Nothing to keep out."""
        return nullcontext()

    def load(self, head: Head, settings: Settings | None) -> WorkerState | None:
        """Return the state."""
        return self._kept

    def save(self, state: WorkerState, settings: Settings) -> None:
        """Keep the state."""
        self._kept = state


def store_for(context: Context | None, key: int) -> StateStore:
    """Return the store of a client."""
    return ObjectStore() if context is None else ContextStore(context, key)
