"""Atomic save and load of arrays with JSON metadata, as safetensors files."""

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..checks import json_value
from ..errors import CheckpointError, StateInUseError, UnsafeFileError
from . import opening

Arrays = dict[str, NDArray[Any]]
_META = "lasg-2"
_HEX_DIGITS = 32
"""Length of the checksum that stands before the metadata."""


def to_bytes(arrays: Mapping[str, NDArray[Any]], meta: dict[str, Any]) -> bytes:
    """Serialise arrays and metadata.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Any dtypes that safetensors knows.
    meta : dict
        JSON-ready values.
    """
    contiguous = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    text = json.dumps(meta, separators=(",", ":"))
    # one entry: safetensors writes several in any order, and equal states must be equal
    return save(contiguous, {_META: _checksum(contiguous, text) + text})


def _checksum(arrays: Arrays, text: str) -> str:
    """Return a digest of metadata, and of every array's name, form and CRC-32.

    It is there to find damage; a hash of all bytes would take five times as long, and a
    client reads and writes its state in every round.
    """
    digest = sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data)
        digest.update(f"{name}{array.dtype.str}{array.shape}{crc}".encode())
    return digest.hexdigest()[:_HEX_DIGITS]


def from_bytes(data: bytes) -> tuple[Arrays, dict[str, Any]]:
    """Undo `to_bytes`.

    Raises
    ------
    CheckpointError
        If the bytes are damaged.
    """
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json_value(data[8 : 8 + length])["__metadata__"]
        if _META not in header:
            raise ValueError("it is not in the format of this release")
        arrays, entry = load(data), header[_META]
        checksum, text = entry[:_HEX_DIGITS], entry[_HEX_DIGITS:]
        if _checksum(arrays, text) != checksum:
            raise ValueError("its checksum does not match: it was damaged")
        return arrays, json_value(text)
    except (SafetensorError, struct.error, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"cannot read a checkpoint: {error}") from None


def write(path: Path, data: bytes) -> None:
    """Replace a file, or make it and its folder; see `opening.replace`.

    Two writers of one path must keep each other out (``locked``).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    opening.replace(path, data)


def read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Load what `to_bytes` made and `write` wrote.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged.
    """
    try:
        return from_bytes(opening.read_bytes(path))
    except (OSError, CheckpointError) as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error}") from None


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
    UnsafeFileError
        If the lock's file is no regular file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    held = True
    try:
        os.close(opening.opened(path, "lock"))  # the lock itself might follow a link
        lock.acquire(timeout=seconds, poll_interval=0.02)
    except Timeout:
        raise StateInUseError(refusal) from None
    except UnsafeFileError:
        raise
    except (NotImplementedError, OSError):  # some network file systems have no locks
        held = False
    try:
        yield
    finally:
        if held:
            lock.release()
