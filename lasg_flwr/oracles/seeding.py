"""All global generators seeded for a moment, and given back as they were."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_NUMPY_SEEDS = 1 << 32


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
    """Seed those of PyTorch too, on all devices, if it is loaded; restore them after.

    Only CUDA devices that are in use already are restored: asking the others for
    their state would start them.

    Parameters
    ----------
    seed : int
        ``0 <= seed < 2**63``.
    """
    torch = sys.modules.get("torch")
    with host_seeded(seed):
        if torch is None:
            yield
            return
        used = torch.cuda.device_count() if torch.cuda.is_initialized() else 0
        with torch.random.fork_rng(range(used)):
            torch.manual_seed(seed)  # the generators of CUDA and other devices too
            yield
