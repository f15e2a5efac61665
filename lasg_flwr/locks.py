"""Locks between processes: one at a time on a file."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import StateInUseError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(path: Path, seconds: float, refusal: str) -> Iterator[None]:
    """Keep other processes out; the system frees the lock of one that died.

    Parameters
    ----------
    path : Path
        The lock's file, made if it does not exist.
    seconds : float
        How long to wait for another process that is about to end.
    refusal : str
        What to say if it does not.

    Raises
    ------
    StateInUseError
        If another process has the lock for longer than `seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        end = time.monotonic() + seconds
        while not _try_lock(file.fileno()):
            if time.monotonic() > end:
                raise StateInUseError(refusal)
            time.sleep(0.02)
        try:
            yield
        finally:
            _unlock(file.fileno())


def _try_lock(descriptor: int) -> bool:
    if fcntl is None:  # pragma: no cover
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems have no locks: go without
        return True
    return True


def _unlock(descriptor: int) -> None:
    """Give the lock back: closing does not while a forked process has the file too."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
