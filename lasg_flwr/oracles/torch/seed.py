"""The generators that a PyTorch model draws from, seeded for a moment."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from ..seeding import host_seeded


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
    cpu = torch.get_rng_state()
    accelerator = None if of_device is None else of_device.get_rng_state(device)
    try:
        torch.default_generator.manual_seed(seed)
        if of_device is not None:
            with getattr(of_device, "device", nullcontext)(device):
                of_device.manual_seed(seed)  # seeds the current one
        with host_seeded(seed):
            yield
    finally:
        torch.set_rng_state(cpu)
        if of_device is not None:
            of_device.set_rng_state(accelerator, device)
