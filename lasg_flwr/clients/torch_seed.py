"""All global generators seeded for a moment, and given back as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

_NUMPY_SEEDS = 1 << 32


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators of Python, NumPy, PyTorch and `device`; restore them after.

    Dropout, augmentation and whatever else draws from global generators then depends
    on `seed` alone, and the caller's own draws are not disturbed.

    Parameters
    ----------
    seed : int
        ``0 <= seed < 2**63``.
    device : torch.device
        The device whose generator is seeded besides the CPU's.
    """
    of_device = None if device.type == "cpu" else torch.get_device_module(device)
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    cpu = torch.get_rng_state()
    accelerator = None if of_device is None else of_device.get_rng_state(device)
    try:
        random.seed(seed)
        np.random.seed(seed % _NUMPY_SEEDS)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        if of_device is not None:
            with getattr(of_device, "device", nullcontext)(device):
                of_device.manual_seed(seed)  # seeds the current one
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if of_device is not None:
            of_device.set_rng_state(accelerator, device)
