"""Blocks of a long vector, worked off by a few threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

BLOCK = 1 << 15
"""Coordinates a block: a multiple of 8, so that packed blocks begin at a byte."""

_PARALLEL_FROM = 1 << 18


def count() -> int:
    """Return the number of threads: LASG_THREADS, or the cores that may be used."""
    asked = os.environ.get("LASG_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def blocks(size: int, block: int = BLOCK) -> list[tuple[int, int]]:
    """Cut range(size) into blocks.

    Examples
    --------
    >>> blocks(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(i, min(i + block, size)) for i in range(0, size, block)]


def in_threads(
    work: Callable[[int], None], tasks: int, size: int = _PARALLEL_FROM
) -> None:
    """Call ``work(i)`` for i below `tasks`, in a few threads; raise the first error.

    `size` is the length of the vector: for a short one threads take longer to start
    than to work.
    """
    workers = min(count(), tasks) if size >= _PARALLEL_FROM else 1
    if workers < 2:
        for i in range(tasks):
            work(i)
        return

    def share(first: int) -> None:
        for i in range(first, tasks, workers):
            work(i)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(share, range(workers)))


def over_blocks(work: Callable[[int, int], None], size: int) -> None:
    """Call ``work(start, stop)`` for the blocks of range(size)."""
    parts = blocks(size)
    if size < _PARALLEL_FROM:
        for start, stop in parts:
            work(start, stop)
    else:
        in_threads(lambda i: work(*parts[i]), len(parts))
