"""All global generators seeded for a moment, and given back as they were."""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import memmove, string_at
from functools import lru_cache
from typing import Any

import numpy as np

_NUMPY_SEEDS = 1 << 32
_MT19937_BYTES = 4 * 624 + 4
"""624 words and the position among them."""
_FRAMEWORKS = ("torch", "tensorflow")


def loaded_frameworks() -> set[str]:
    """Return the frameworks with global generators that have been imported."""
    return {name for name in _FRAMEWORKS if name in sys.modules}


@contextmanager
def host_seeded(seed: int) -> Iterator[None]:
    """Seed the generators of Python and NumPy; restore them after.

    Parameters
    ----------
    seed : int
        ``seed >= 0``; of NumPy's the last 32 bits.
    """
    python, restore = random.getstate(), _kept_numpy_state()
    try:
        random.seed(seed)
        np.random.seed(seed % _NUMPY_SEEDS)  # noqa: NPY002
        yield
    finally:
        random.setstate(python)
        restore()


def _kept_numpy_state() -> Callable[[], None]:
    """Return what gives NumPy's global generator the state back that it has now.

    ``get_state`` and ``set_state`` build 624 numbers and take a hundred microseconds
    together, as long as a tenth of a small network's gradient. So the state's bytes are
    copied; what they do not hold is whether one normal number is kept for the next
    draw. A draw tells: if the bytes have not changed after it, one was kept.
    """
    generator: Any = np.random.get_bit_generator()  # type: ignore[attr-defined]
    if type(generator) is not np.random.MT19937:
        state = np.random.get_state(legacy=False)  # noqa: NPY002
        return _with_set_state(state)
    address = generator.ctypes.state_address
    before = string_at(address, _MT19937_BYTES)
    kept = np.random.standard_normal()  # noqa: NPY002
    if string_at(address, _MT19937_BYTES) == before:
        state = np.random.get_state(legacy=False)  # noqa: NPY002
        return _with_set_state({**state, "has_gauss": 1, "gauss": kept})

    def restore() -> None:
        np.random.seed(0)  # noqa: NPY002 - no normal number is kept then
        memmove(generator.ctypes.state_address, before, _MT19937_BYTES)

    return restore


def _with_set_state(state: Any) -> Callable[[], None]:
    return lambda: np.random.set_state(state)  # noqa: NPY002


@contextmanager
def all_seeded(seed: int) -> Iterator[None]:
    """Seed those of PyTorch and TensorFlow too, if they are loaded.

    PyTorch's are restored after, on all devices; TensorFlow's cannot be. Only CUDA
    devices that are in use already are restored: asking the others for their state
    would start them.

    Parameters
    ----------
    seed : int
        ``0 <= seed < 2**63``.
    """
    torch = sys.modules.get("torch")
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        tensorflow.random.set_seed(seed % _NUMPY_SEEDS)
    with host_seeded(seed):
        if torch is None:
            yield
            return
        used = torch.cuda.device_count() if torch.cuda.is_initialized() else 0
        with torch.random.fork_rng(range(used)):
            _seed_torch(torch, seed)
            yield


def _seed_torch(torch: Any, seed: int) -> None:
    """Seed PyTorch's generators, those of CUDA and other devices too.

    For a device that is not in use yet ``manual_seed`` keeps the seed for later, and a
    text of the whole stack with it, which takes a millisecond: not without a device.
    """
    if _has_devices():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@lru_cache(maxsize=1)
def _has_devices() -> bool:
    """Return whether PyTorch may find a device besides the processor."""
    accelerator = getattr(sys.modules["torch"], "accelerator", None)  # from 2.6 on
    return accelerator is None or bool(accelerator.is_available())
