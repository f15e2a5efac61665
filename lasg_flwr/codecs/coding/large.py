"""Joining parts into bytes, in huge pages where Linux offers them.

A payload of tens of megabytes is new memory each time, and its page faults, one for
each 4 KiB, take four times as long as the copy itself. NumPy asks for huge pages when
it allocates; Python does not when it makes bytes.
"""

import ctypes
import platform
from functools import cache, lru_cache
from io import BytesIO
from typing import Any

import numpy as np

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


@lru_cache(maxsize=64)
def vector_head(size: int) -> bytes:
    """Return what NumPy's `save` writes before a vector of `size` bytes.

    Examples
    --------
    >>> file = BytesIO()
    >>> np.save(file, np.frombuffer(b"abc", np.uint8))
    >>> file.getvalue() == vector_head(3) + b"abc"
    True
    """
    file = BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": (size,)}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


def framed(parts: tuple[BytesLike, ...]) -> BytesLike:
    """Return the parts joined; if they are large, with `vector_head` before them.

    A transport that sends such vectors finds the head by `frame_of`, and need not copy
    what stands behind it.

    Examples
    --------
    >>> framed((b"ab", memoryview(b"cd")))
    b'abcd'
    >>> large = framed((bytes(LARGE),))
    >>> frame_of(large) == vector_head(LARGE) + large
    True
    """
    total = sum(len(part) for part in parts)
    if total < LARGE:
        return b"".join(parts)
    head = vector_head(total)
    return memoryview(joined((head, *parts)))[len(head) :]


def frame_of(body: BytesLike) -> bytes | None:
    """Return the bytes that a large `body` and its head stand in, if it has one."""
    whole = body.obj if isinstance(body, memoryview) else None
    head = vector_head(len(body))
    if not isinstance(whole, bytes) or len(whole) != len(head) + len(body):
        return None
    behind = np.frombuffer(whole, np.uint8, offset=len(head))
    same = behind.ctypes.data == np.frombuffer(body, np.uint8).ctypes.data
    return whole if same and whole.startswith(head) else None


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
