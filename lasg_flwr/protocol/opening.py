"""The one place where files are opened, also in folders that others can write to.

There somebody may have put a link, a FIFO or a file of their own where ours is to be. A
link is not followed, nothing but a regular file is read or written, opening one never
waits, and what is new is ours alone from its first byte on.
"""

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import Literal

from ..errors import UnsafeFileError

How = Literal["read", "new", "append", "lock"]

_SAFE = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO would wait for its other end
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_FLAGS: dict[How, int] = {
    "read": os.O_RDONLY,
    "new": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
    "append": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "lock": os.O_RDWR | os.O_CREAT,
}
_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.EISDIR)
_OURS_ALONE = 0o600
_NO_SYNC = {
    errno.EINVAL,
    errno.EBADF,
    errno.EACCES,
    errno.EPERM,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
}


def opened(path: Path, how: How) -> int:
    """Open a regular file and return its descriptor.

    Parameters
    ----------
    path : Path
        Which.
    how : {"read", "new", "append", "lock"}
        To read it; to write one that must not exist; to write at its end, and make it
        if it does not exist; to lock it, likewise. What is made has mode 0600.

    Raises
    ------
    UnsafeFileError
        If it is a link, FIFO, device or folder.
    OSError
        If it cannot be opened.
    """
    try:
        descriptor = os.open(path, _FLAGS[how] | _SAFE, _OURS_ALONE)
    except OSError as error:
        if error.errno in _NO_FILE or (how != "new" and path.is_symlink()):
            raise _no_file(path) from None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise _no_file(path)


def _no_file(path: Path) -> UnsafeFileError:
    kind = "a symbolic link" if path.is_symlink() else "no regular file"
    return UnsafeFileError(
        f"{path} is {kind}, and is not opened: remove it, or choose another place"
    )


def read_bytes(path: Path) -> bytes:
    """Return what a regular file holds."""
    with os.fdopen(opened(path, "read"), "rb") as file:
        return file.read()


def append_line(path: Path, line: str) -> None:
    """Write a line at a file's end; the file is made if it does not exist."""
    with os.fdopen(opened(path, "append"), "ab") as file:
        file.write(line.encode() + b"\n")


def replace(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old or the new one, never a half one.

    The new one grows under a name of its own. What is there by that name, as a crash
    leaves it behind, is removed, never written to; where that is not allowed, another
    name is taken. Two writers of one path must keep each other out.
    """
    growing = path.with_name(f".{path.name}.new")
    try:
        growing.unlink(missing_ok=True)
        descriptor = opened(growing, "new")
    except (PermissionError, FileExistsError, IsADirectoryError):
        growing = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
        descriptor = opened(growing, "new")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
        growing.replace(path)
    except BaseException:
        growing.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Write the folder's entry of a new file through, where its system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:  # some network file systems cannot
            raise
