"""Runs carried out ahead of being asked for, several at a time.

Small models use one core well and two badly, so each run has a process with one thread.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Annotated

import typer

from lasg_flwr.codecs.coding import threads

from ..run import Run

MOST = 4
"""How many runs go on at a time unless more are asked for; a network's takes 1 GB."""
_THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("NUMBA_NUM_THREADS", "LASG_THREADS"),
)

Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="runs at a time, with a thread each; none: as many as cores, at most "
        f"{MOST}, of quick versions 1",
    ),
]
Compute = Callable[[Run], float]
Done = Callable[[Run, float], None]


def default_jobs(quick: bool = False) -> int:
    """Return as many runs at a time as there are cores, at most `MOST`; one of quick.

    Starting a process takes longer than a quick run.
    """
    return 1 if quick else min(threads.count(), MOST)


def carry_out(
    runs: Iterable[Run], jobs: int, compute: Compute, done: Done, end: float
) -> None:
    """Call ``compute(run)`` in `jobs` processes, and ``done(run, seconds)`` here.

    Runs start in their order; none starts after `end`, as `time.monotonic` counts.
    Where one fails, those that go on are finished, and its error is raised.

    Raises
    ------
    ValueError
        If a process was killed, as one is that takes too much memory.
    """
    left, going = iter(runs), dict[Future[float], Run]()
    spawned = get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=spawned, initializer=_end_with_parent)
    with _one_thread_each(), pool:
        while True:
            while len(going) < jobs and time.monotonic() < end:
                run = next(left, None)
                if run is None:
                    break
                going[pool.submit(compute, run)] = run
            if not going:
                return
            for future in wait(going, return_when=FIRST_COMPLETED).done:
                run = going.pop(future)
                try:
                    done(run, future.result())
                except BrokenProcessPool:
                    raise ValueError(
                        f"the process of a run was killed, of {run} or of one beside "
                        "it: where memory is short, choose fewer --jobs"
                    ) from None


def _end_with_parent() -> None:
    """End this process by Ctrl-C without a word, and with the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that start now have one thread, unless the user says otherwise."""
    ours = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(ours, "1"))
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]
