"""Which inner loops run: compiled ones where numba is installed, else NumPy's."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from . import kernels

MINIMUM = 1 << 16
"""Shorter vectors stay with NumPy: they would not pay for the compilation."""

available = find_spec("numba") is not None
"""Whether the extra ``fast`` is installed."""


def kernels_for(size: int) -> ModuleType:
    """Return the module with the inner loops for vectors of length `size`."""
    if not available or size < MINIMUM:
        return kernels
    return import_module(f"{__package__}.fast")
