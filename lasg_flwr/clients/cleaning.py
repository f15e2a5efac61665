"""Old worker states on a node: which files nobody needs any more."""

import time
from contextlib import suppress
from logging import INFO
from pathlib import Path

from flwr.common import log

KEPT_DAYS = 30.0
_DAY = 86_400.0


def forget(path: Path) -> None:
    """Remove a worker's state, its lock, and its run's folder if that is empty.

    What cannot be removed stays: it does no harm but for its size.
    """
    for file in (path, path.with_suffix(".lock")):
        with suppress(OSError):
            file.unlink()
    with suppress(OSError):  # other workers of the run are there
        path.parent.rmdir()


def forget_old(path: Path, days: float = KEPT_DAYS) -> None:
    """Remove this worker's states of other runs that nobody touched for some days.

    A checkpoint that still means one of them loses little: the worker is refreshed,
    as one without state is.

    Parameters
    ----------
    path : Path
        The worker's state of the present run.
    days : float (default: 30)
        How long a state is kept.
    """
    oldest = time.time() - days * _DAY
    for other in path.parent.parent.glob(f"run-*/{path.name}"):
        with suppress(OSError):
            if other != path and other.lstat().st_mtime < oldest:
                log(INFO, "lasg: removing the old worker state %s", other)
                forget(other)
