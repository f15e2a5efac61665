"""What loaded data sets are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .parse import Features

Labels: TypeAlias = NDArray[np.float32] | NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """A classification data set, already split and scaled.

    Attributes
    ----------
    name : str
        One of `experiments.data.NAMES`.
    train_x, test_x : ndarray of float32, shape (n, p)
        Features; the last column is the constant 1.
    train_y, test_y : ndarray, shape (n,)
        Labels: -1/+1 (float32) where `classes` is 2, otherwise class indices
        ``0..classes-1`` (int64).
    classes : int
        Number of classes.
    """

    name: str
    train_x: Features
    train_y: Labels
    test_x: Features
    test_y: Labels
    classes: int


@dataclass(frozen=True)
class NetworkData:
    """Examples as a network is fed with them, already split.

    Attributes
    ----------
    name : str
        One of `experiments.data.NETWORK_NAMES`.
    train_x, train_y, test_x, test_y : ndarray, shape (n, ...)
        Inputs and integer targets.
    classes : int
        Number of values a target takes.
    groups : ndarray, shape (n,), int64
        What partitions go by: the class, or the speaker, of each training example.
    pretrained : mapping, optional
        Weights to start from, by their names in the network; all but the last layer.
    """

    name: str
    train_x: NDArray[Any]
    train_y: NDArray[np.int64]
    test_x: NDArray[Any]
    test_y: NDArray[np.int64]
    classes: int
    groups: NDArray[np.int64]
    pretrained: Mapping[str, Any] | None = None
