"""What a run that is stopped says last: where it stood, and how to resume."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import WARNING

from flwr.common import log

from ..errors import AllNodesFailedError, CheckpointError

try:  # Flower's internals: without them only what `resume_hint` itself sees is reported
    from flwr.supercore.exit import add_exit_handler
except ImportError:  # pragma: no cover
    add_exit_handler = None  # type: ignore[assignment]


class _Hint:
    """Says something once."""

    def __init__(self, words: Callable[[], str]) -> None:
        self._words = words
        self._lock = threading.Lock()

    def say(self) -> None:
        if self._lock.acquire(blocking=False):
            log(WARNING, "lasg: %s", self._words())


_running: list[_Hint] = []
_registered = threading.Event()
_ending = threading.Event()


@contextmanager
def resume_hint(words: Callable[[], str]) -> Iterator[None]:
    """Log `words()` if the block is left by an exception or the process is ended.

    On SIGINT, SIGTERM, SIGQUIT and ``flwr stop`` Flower uploads the log and runs its
    exit handlers before the exception reaches this block, and in a simulation it never
    does: the block runs in a thread of its own. So it is said by an exit handler too,
    which comes before the upload, as the last one registered is called first.

    Parameters
    ----------
    words : callable
        Returns what to say; called at most once, from any thread.
    """
    if add_exit_handler is not None and not _registered.is_set():
        _registered.set()
        add_exit_handler(_say_all)
    last = _Hint(words)
    _running.append(last)
    try:
        yield
    except (CheckpointError, AllNodesFailedError):  # the error says what to do
        raise
    except BaseException:
        last.say()
        raise
    finally:
        _running.remove(last)


def leave_if_ending() -> None:
    """Leave the run if the process ends: a simulation's would go on until it is killed.

    Raises
    ------
    SystemExit
        Once Flower has called its exit handlers.
    """
    if _ending.is_set():
        raise SystemExit


def _say_all() -> None:
    _ending.set()
    for last in list(_running):
        last.say()
