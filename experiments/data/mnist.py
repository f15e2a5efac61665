"""MNIST, all ten digits."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .dataset import NetworkData
from .files import read_content
from .parse import parse_idx
from .sources import MNIST


def read_mnist(
    part: str, data_dir: Path | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read a part of MNIST, "train" or "t10k".

    Returns
    -------
    images, labels : ndarray of uint8, shapes (n, 28, 28) and (n,)
    """
    if part not in MNIST:
        raise ValueError(f"part is {part!r}: choose 'train' or 't10k'")
    images, labels = (parse_idx(read_content([s], data_dir)) for s in MNIST[part])
    return images, labels


def load_mnist(data_dir: Path | None) -> NetworkData:
    """MNIST: images of shape (1, 28, 28), bytes, as they are distributed."""
    train, labels = read_mnist("train", data_dir)
    test, test_labels = read_mnist("t10k", data_dir)
    y = labels.astype(np.int64)
    return NetworkData(
        "mnist", train[:, None], y, test[:, None], test_labels.astype(np.int64), 10, y
    )
