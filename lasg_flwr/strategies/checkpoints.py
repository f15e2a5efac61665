"""The checkpoint of a run: server and model in one file, replaced atomically."""

import json
from contextlib import AbstractContextManager
from logging import INFO
from pathlib import Path
from typing import Any

import numpy as np
from flwr.common import log

from ..checks import json_value, whole
from ..errors import CheckpointError
from ..protocol import LasgServer, files, saving
from .model import Model

FILE = "server.safetensors"
LOCK_SECONDS = 10.0
"""How long a run waits for the one it goes on from; Flower ends that within 5 s."""


class Checkpoints:
    """Writes and reads the checkpoint of a run.

    Parameters
    ----------
    folder : Path
        Holds one file, which is always whole: the new one replaces the old.
    every : int
        Rounds between two checkpoints; the last round is always saved.
    """

    def __init__(self, folder: Path, every: int) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(
                f"checkpoint_dir {str(folder)!r} is a file: name a folder of its own"
            )
        self.path = folder.absolute() / FILE
        self.every = whole("checkpoint_every", every, least=1)

    def __str__(self) -> str:
        rounds = "every round" if self.every == 1 else f"every {self.every} rounds"
        return f"Checkpoint: {self.path}, {rounds}; after a stop run it again to resume"

    def locked(self) -> AbstractContextManager[None]:
        """Keep other runs off this folder.

        Raises
        ------
        StateInUseError
            If another one has it for longer than `LOCK_SECONDS`.
        """
        refusal = (
            f"another run is using {self.path}: stop it first (`flwr stop`), or give "
            "this one a checkpoint_dir of its own"
        )
        return files.locked(self.path.with_suffix(".lock"), LOCK_SECONDS, refusal)

    def save(self, server: LasgServer, model: Model, last_seen: dict[int, int]) -> None:
        """Replace the checkpoint, between two rounds."""
        arrays, meta = saving.capture(server)
        arrays["model/integers"] = np.frombuffer(model.integers, np.uint8)
        meta["layout"] = model.layout_json
        meta["last_seen"] = sorted(last_seen.items())
        files.write(self.path, files.to_bytes(arrays, meta))

    def remedy(self) -> str:
        """Return how to go on from here, for whoever stops the run."""
        if self.path.exists():
            return f"run it again to resume from {self.path}"
        return (
            f"there is no checkpoint in {self.path.parent} yet: run it again to start "
            f"anew (checkpoint_every is {self.every})"
        )

    def load(
        self, server: LasgServer, model: Model, new_rate: bool = False
    ) -> dict[int, int] | None:
        """Restore a new server and its model; None where there is no checkpoint.

        Returns
        -------
        dict of int to int or None
            The round in which each worker was last connected.

        Raises
        ------
        CheckpointError
            If the checkpoint is damaged, or of another model, rule or version.
        """
        if not self.path.exists():
            return None
        arrays, meta = files.read(self.path)
        try:
            _check_layout(meta, model)
            saving.restore(server, saving.Capture(arrays, meta), new_rate)
            last_seen = {int(key): int(round_) for key, round_ in meta["last_seen"]}
            model.integers = arrays["model/integers"].tobytes()
            server.broadcast.change_form(model.form)
        except KeyError as missing:
            raise CheckpointError(f"{self.path}: {missing} is missing") from None
        except (CheckpointError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{self.path}: {error}; or move it away, or pass resume=False, to "
                "start anew"
            ) from None
        log(INFO, "lasg: resumed from %s after round %d", self.path, server.round)
        return last_seen


def _check_layout(meta: dict[str, Any], model: Model) -> None:
    if meta["layout"] == model.layout_json:
        return
    saved = {name: rest for name, *rest in json_value(meta["layout"])}
    given = {name: rest for name, *rest in json.loads(model.layout_json)}
    names = [n for n in {**saved, **given} if saved.get(n) != given.get(n)]
    name = names[0] if names else "the order of its arrays"
    raise CheckpointError(
        f"the checkpoint is of another model: {name!r} is {saved.get(name)!r} there "
        f"and {given.get(name)!r} in this run"
    )
