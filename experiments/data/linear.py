"""The data sets of the linear models, split and scaled."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from .dataset import Dataset, Labels
from .files import libsvm_arrays
from .mnist import read_mnist
from .parse import DataError, Features
from .sources import COVTYPE, COVTYPE_SCALED, IJCNN1_TEST, IJCNN1_TRAIN, Source

_COVTYPE_ROWS = 581_012


def _with_constant(x: Features) -> Features:
    """Append the constant-1 column: (n, p) -> (n, p + 1)."""
    return np.hstack([x, np.ones((len(x), 1), np.float32)])


def _min_max(x: Features) -> Features:
    """Scale each column of (n, p) to [0, 1]; a constant column becomes 0."""
    low = x.min(axis=0)
    width = x.max(axis=0) - low
    width[width == 0] = 1
    scaled: Features = (x - low) / width
    return scaled


def _signs(
    labels: NDArray[np.generic], positive: int, negative: int, name: str
) -> NDArray[np.float32]:
    """Map two label values to +1 and -1."""
    values = np.unique(labels).tolist()
    if not set(values) <= {positive, negative}:
        raise DataError(
            f"{name}: labels {values[:5]}, expected {negative} and {positive}"
        )
    return np.where(labels == positive, np.float32(1), np.float32(-1))


def _hold_out(name: str, x: Features, y: Labels, every: int, classes: int) -> Dataset:
    """Make every `every`-th example (the last of each run) a test example."""
    test = np.arange(len(y)) % every == every - 1
    return Dataset(name, x[~test], y[~test], x[test], y[test], classes)


def _load_digits(data_dir: Path | None) -> Dataset:
    """8x8 digits shipped with scikit-learn, 10 classes; test: index % 6 == 5."""
    del data_dir  # no file to look for
    pixels, labels = load_digits(return_X_y=True)
    x = _with_constant((pixels / 16).astype(np.float32))
    return _hold_out("digits", x, labels.astype(np.int64), every=6, classes=10)


def _mnist35_part(part: str, data_dir: Path | None) -> tuple[Features, Labels]:
    images, labels = read_mnist(part, data_dir)
    kept = (labels == 3) | (labels == 5)
    pixels = images.reshape(len(images), -1)[kept].astype(np.float32) / 255
    return _with_constant(pixels), _signs(labels[kept], 3, 5, "mnist35")


def _load_mnist35(data_dir: Path | None) -> Dataset:
    """MNIST 3 (+1) against 5 (-1), p = 785."""
    train = _mnist35_part("train", data_dir)
    return Dataset("mnist35", *train, *_mnist35_part("t10k", data_dir), classes=2)


def _ijcnn1_part(source: Source, data_dir: Path | None) -> tuple[Features, Labels]:
    x, y = libsvm_arrays([source], data_dir)
    return _with_constant(x), _signs(y, 1, -1, "ijcnn1")


def _load_ijcnn1(data_dir: Path | None) -> Dataset:
    """IJCNN 2001 challenge data as distributed, p = 23."""
    train = _ijcnn1_part(IJCNN1_TRAIN, data_dir)
    return Dataset("ijcnn1", *train, *_ijcnn1_part(IJCNN1_TEST, data_dir), classes=2)


def _load_covtype(data_dir: Path | None) -> Dataset:
    """Covertype, label 2 (+1) against 1 (-1), p = 55; test: index % 10 == 9."""
    x, y = libsvm_arrays([COVTYPE, COVTYPE_SCALED], data_dir)
    if len(y) != _COVTYPE_ROWS:
        raise DataError(f"covtype: {len(y)} rows, expected {_COVTYPE_ROWS}")
    features = _with_constant(_min_max(x))
    return _hold_out("covtype", features, _signs(y, 2, 1, "covtype"), 10, classes=2)


LOADERS: dict[str, Callable[[Path | None], Dataset]] = {
    "digits": _load_digits,
    "mnist35": _load_mnist35,
    "ijcnn1": _load_ijcnn1,
    "covtype": _load_covtype,
}
