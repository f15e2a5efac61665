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
    """Read the images and labels of one part of MNIST.

    Parameters
    ----------
    part : {"train", "t10k"}
        Which part.
    data_dir : Path, optional
        Folder to search first.

    Returns
    -------
    images : ndarray of uint8, shape (n, 28, 28)
        Pixels 0..255.
    labels : ndarray of uint8, shape (n,)
        Digits 0..9.
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
