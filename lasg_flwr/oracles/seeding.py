"""All global generators seeded for a moment, and given back as they were."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_NUMPY_SEEDS = 1 << 32
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
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed % _NUMPY_SEEDS)  # noqa: NPY002
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002


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
            torch.manual_seed(seed)  # the generators of CUDA and other devices too
            yield
