"""Results, each computed once and kept in a file named by what determines it."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from .. import training
from ..run import Run
from . import ahead

FORMAT = 2
"""Part of every key. Raise it when a change of the code changes what runs give.

Keys hold what configs say, not what the code says: a changed default of a `Run`, a
changed network, way of pretraining, or constant of the appendix needs a new format.
"""

Result = dict[str, Any]
Say = Callable[[str], None]


class Store:
    """A folder of results.

    A file is written whole or not at all, so that an interrupted run leaves only
    results that are good; a damaged file is as good as none. Without `resume` all is
    computed anew; `planned` is how many results will be asked for, for the estimate of
    the time left; `say` is given a line for each result that was computed. Runs that
    are announced by `ahead` are carried out `jobs` at a time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        resume: bool = True,
        data_dir: Path | None = None,
        planned: int = 0,
        say: Say = lambda line: None,
        jobs: int = 1,
    ) -> None:
        self.folder = folder
        self.resume = resume
        self.data_dir = data_dir
        self.planned = planned
        self.jobs = jobs
        self.done = self.computed = 0
        self.seconds = 0.0
        self._say = say
        self._fresh: set[str] = set()
        self._ahead: set[str] = set()

    def run(self, run: Run) -> Result:
        """Return the result of a run: its history and its totals, without times."""

        def compute() -> Result:
            done = training.train(run, training.task_of(run, self.data_dir))
            totals = {k: v for k, v in done.totals.items() if k != "seconds"}
            return {"history": done.history, "totals": totals}

        return self.get(run.spec, str(run), compute)

    def ahead(self, runs: Iterable[Run], end: float = inf) -> None:
        """Carry out runs that will be asked for; with one job they wait until then.

        Each has one thread, also where it is the only one: what it gives hangs on that,
        if only in the last digits. None starts after `end`, as `time.monotonic` counts.
        """
        missing = [run for run in dict.fromkeys(runs) if not self.has(run)]
        if self.jobs == 1 or not missing:
            return
        compute = partial(_seconds_of, self.folder, self.data_dir)
        jobs = min(self.jobs, len(missing))
        ahead.carry_out(missing, jobs, compute, partial(self._arrived, jobs), end)

    def _arrived(self, jobs: int, run: Run, seconds: float) -> None:
        key = key_of(run.spec)
        self.done += 1
        self._ahead.add(key)
        self._note(key, str(run), seconds, seconds / jobs)

    def has(self, run: Run) -> bool:
        """Return whether the result of a run is there already."""
        usable = self.resume or key_of(run.spec) in self._fresh
        return usable and self._read(self._path(run.spec)) is not None

    def get(
        self, spec: Mapping[str, Any], name: str, compute: Callable[[], Result]
    ) -> Result:
        """Return the result that `spec` determines, computed only if it is not there.

        `spec` and the result are JSON-ready; `name` is what the progress calls it.
        """
        key = key_of(spec)
        path = self._path(spec)
        found = self._read(path) if self.resume or key in self._fresh else None
        self.done += key not in self._ahead
        self._ahead.discard(key)
        if found is not None:
            return found
        start = time.perf_counter()
        text = json.dumps({"spec": spec, "result": compute()})
        _write(path, text)
        seconds = time.perf_counter() - start
        self._note(key, name, seconds, seconds)
        result: Result = json.loads(text)["result"]
        return result

    def _note(self, key: str, name: str, seconds: float, share: float) -> None:
        """Take note of a result that was computed; `share` is its part of our time."""
        self._fresh.add(key)
        self.computed += 1
        self.seconds += share
        self._say(f"[{self.done}/{self.planned}] {name}: {seconds:.1f} s, {self.left}")

    @property
    def left(self) -> str:
        """The estimate of the time left, from the mean of what was computed."""
        remaining = max(self.planned - self.done, 0)
        seconds = remaining * self.seconds / max(self.computed, 1)
        if seconds < 100:
            return f"about {seconds:.0f} s left"
        return f"about {seconds / 60:.0f} min left"

    def _path(self, spec: Mapping[str, Any]) -> Path:
        return self.folder / f"{key_of(spec)}.json"

    def _read(self, path: Path) -> Result | None:
        try:
            result: Result = json.loads(path.read_text())["result"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return result


def _seconds_of(folder: Path, data_dir: Path | None, run: Run) -> float:
    """Carry out a run in a process of its own, into the folder; return how long."""
    store = Store(folder, resume=False, data_dir=data_dir)
    store.run(run)
    return store.seconds


def key_of(spec: Mapping[str, Any]) -> str:
    """Return the hash that a result is kept under.

    Examples
    --------
    >>> key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1})
    True
    """
    text = json.dumps({"format": FORMAT, **spec}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text)
    os.replace(part, path)
