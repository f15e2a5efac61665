"""Data files: where each comes from, found, downloaded and checked.

A file is looked for in ``data_dir``, then in the folder that the environment
variable ``LASG_DATA`` names, then in the cache (``LASG_CACHE``, or
``~/.cache/lasg-flwr``); one found nowhere is downloaded into the cache. Apart
from the public scaled covtype file, of which the rows are counted, every file is
checked against a checksum: of its uncompressed content, or for LIBSVM text, which
writes the same numbers in more than one way, of the float32 arrays it holds.
"""

import bz2
import gzip
import hashlib
import os
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .parse import DataError, Features, parse_libsvm
from .sources import ARRAYS, Source

_TIMEOUT_S = 30


_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
}


def cache_dir() -> Path:
    """Return the folder that downloads are kept in."""
    named = os.environ.get("LASG_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "lasg-flwr"


def folders(source: Source, data_dir: Path | None) -> list[Path]:
    """Return the folders to search for a file, first choice first."""
    named = os.environ.get("LASG_DATA")
    roots = [data_dir, Path(named) if named else None]
    found = [f for r in roots if r is not None for f in (r / source.folder, r)]
    return [*found, cache_dir() / source.folder]


def verify(content: bytes, source: Source, where: str) -> None:
    """Raise `DataError` where the content is not the expected one."""
    if source.digest is None:
        return
    algorithm = source.digest.partition(":")[0]
    name = "sha256" if algorithm == ARRAYS else algorithm
    hasher = hashlib.new(name, content, usedforsecurity=False)
    found = f"{algorithm}:{hasher.hexdigest()}"
    if found != source.digest:
        raise DataError(
            f"{where}: the content is not that of {source.file}: "
            f"expected {source.digest}, found {found}. Replace the file "
            f"(public source: {source.url})."
        )


def decompress(packed: bytes, source: Source, where: str) -> bytes:
    """Return the checked content of a file, uncompressed if it is .gz or .bz2."""
    unpack = _UNPACK.get(Path(source.file).suffix, bytes)
    try:
        content = unpack(packed)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(
            f"{where}: cannot be decompressed ({error}). Replace the file "
            f"(public source: {source.url})."
        ) from error
    if source.digest is not None and not source.digest.startswith(ARRAYS):
        verify(content, source, where)
    return content


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def download(source: Source) -> bytes:
    """Fetch a file, keep it in the cache, return its uncompressed content."""
    with urllib.request.urlopen(source.url, timeout=_TIMEOUT_S) as response:
        packed: bytes = response.read()
    content = decompress(packed, source, source.url)
    if source.features:
        checked_arrays(content, source, source.url)
    write_atomic(cache_dir() / source.folder / source.file, packed)
    return content


def _missing(sources: Sequence[Source], data_dir: Path | None) -> str:
    """Say what was looked for, where, and what to do about it."""
    files = " or ".join(source.file for source in sources)
    searched = ", ".join(str(folder) for folder in folders(sources[0], data_dir))
    return (
        f"{files} not found in {searched}, and {sources[-1].url} could not be "
        f"downloaded. Put the file into one of these folders, or name the folder "
        f"that holds it with LASG_DATA or --data-dir."
    )


def read_content(sources: Sequence[Source], data_dir: Path | None) -> bytes:
    """Return the content of the first source found, see `find_content`."""
    return find_content(sources, data_dir)[0]


def find_content(
    sources: Sequence[Source], data_dir: Path | None
) -> tuple[bytes, Source, str]:
    """Return the content of the first source found, which it is, and where.

    If none is found, the last one is downloaded.
    """
    for source in sources:
        path = _path_of(source, data_dir)
        if path is not None:
            return decompress(path.read_bytes(), source, str(path)), source, str(path)
    try:
        return download(sources[-1]), sources[-1], sources[-1].url
    except (OSError, HTTPException) as error:
        raise DataError(f"{_missing(sources, data_dir)} Cause: {error}") from error


def first_found(sources: Sequence[Source], data_dir: Path | None) -> Source | None:
    """Return the first source whose file is there."""
    return next((s for s in sources if _path_of(s, data_dir) is not None), None)


def _path_of(source: Source, data_dir: Path | None) -> Path | None:
    paths = (folder / source.file for folder in folders(source, data_dir))
    return next((path for path in paths if path.is_file()), None)


def libsvm_arrays(
    sources: Sequence[Source], data_dir: Path | None
) -> tuple[Features, NDArray[np.float32]]:
    """Return the checked arrays of the first LIBSVM file found."""
    return checked_arrays(*find_content(sources, data_dir))


def checked_arrays(
    content: bytes, source: Source, where: str
) -> tuple[Features, NDArray[np.float32]]:
    """Return the arrays of LIBSVM text, checked."""
    x, y = parse_libsvm(content, source.features)
    verify(x.tobytes() + y.tobytes(), source, where)
    return x, y
