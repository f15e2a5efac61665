"""Which inner loops run: compiled ones where numba is installed, else NumPy's."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from . import kernels, rans_loops

MINIMUM = 1 << 16
"""Shorter vectors stay with NumPy: they would not pay for the compilation."""

SEQUENTIAL_MINIMUM = 1 << 9
"""The same for loops that NumPy cannot do at once."""

WIDE_FROM = 64
"""From so many lanes on, NumPy over all of them is faster than plain Python."""

available = find_spec("numba") is not None
"""Whether the extra ``fast`` is installed."""


def kernels_for(size: int) -> ModuleType:
    """Return the module with the inner loops for vectors of length `size`."""
    if not available or size < MINIMUM:
        return kernels
    return import_module(f"{__package__}.fast")


def loops_for(size: int, lanes: int) -> ModuleType | None:
    """Return the module with the loops of `rans_loops`, compiled if they can be.

    None where NumPy should do them, see `rans_wide`.
    """
    if available and size >= SEQUENTIAL_MINIMUM:
        return import_module(f"{__package__}.rans_fast")
    return None if lanes >= WIDE_FROM else rans_loops


def deadzone_for(size: int) -> ModuleType:
    """Return the module with `histogram` and `deadzone` for this length."""
    if available and size >= SEQUENTIAL_MINIMUM:
        return import_module(f"{__package__}.deadzone_fast")
    return kernels


def addition_for(size: int) -> Callable[[Any, Any, float], None] | None:
    """Return a compiled ``total += weight * x`` for float64 and float32, if there is.

    It gives the bits that NumPy gives, without its two passes over what it converts.
    """
    if not available or size < MINIMUM:
        return None
    loop: Callable[[Any, Any, float], None]
    loop = import_module(f"{__package__}.fast").add_weighted
    return loop
