"""Joining parts into bytes, in huge pages where Linux offers them.

A payload of tens of megabytes is new memory each time, and its page faults, one for
each 4 KiB, take four times as long as the copy itself. NumPy asks for huge pages when
it allocates; Python does not when it makes bytes.
"""

import ctypes
import platform
from functools import cache
from typing import Any

from .entropy import BytesLike

LARGE = 1 << 22
_PAGE, _HUGE_PAGES = 4096, 14  # MADV_HUGEPAGE


def joined(parts: tuple[BytesLike, ...]) -> bytes:
    """Return the parts as one bytes object.

    Examples
    --------
    >>> joined((b"ab", memoryview(b"cd")))
    b'abcd'
    """
    total = sum(len(part) for part in parts)
    library = _library() if total >= LARGE else None
    if library is None:
        return b"".join(parts)
    # the C API's way: bytes without content, filled before anybody else sees them
    made: bytes = library.new(None, total)
    address = ctypes.cast(ctypes.c_char_p(made), ctypes.c_void_p).value or 0
    first = -(-address // _PAGE) * _PAGE
    library.advise(first, (total - (first - address)) // _PAGE * _PAGE, _HUGE_PAGES)
    target = memoryview((ctypes.c_char * total).from_address(address)).cast("B")
    at = 0
    for part in parts:
        target[at : at + len(part)] = part
        at += len(part)
    return made


class _Library:
    """The two functions, where this is CPython on Linux."""

    def __init__(self) -> None:
        self.new: Any = ctypes.pythonapi.PyBytes_FromStringAndSize
        self.new.restype = ctypes.py_object
        self.new.argtypes = [ctypes.c_char_p, ctypes.c_ssize_t]
        self.advise: Any = ctypes.CDLL(None).madvise
        self.advise.restype = ctypes.c_int
        self.advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


@cache
def _library() -> _Library | None:
    if platform.system() != "Linux" or platform.python_implementation() != "CPython":
        return None
    try:
        return _Library()
    except (AttributeError, OSError):  # a C library without madvise
        return None
