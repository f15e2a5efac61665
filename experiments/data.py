"""Load the data sets of the experiments and cut them into worker shards.

A file is looked for in ``data_dir``, then in the folder that the environment
variable ``LASG_DATA`` names, then in the cache (``LASG_CACHE``, or
``~/.cache/lasg-flwr``); one found nowhere is downloaded into the cache. Apart
from the public scaled covtype file, of which the rows are counted, every file is
checked against a checksum: of its uncompressed content, or for LIBSVM text, which
writes the same numbers in more than one way, of the float32 arrays it holds.
"""

import bz2
import gzip
import hashlib
import io
import math
import os
import tempfile
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import (
    load_digits,
    load_svmlight_file,
)

__all__ = [
    "NAMES",
    "DataError",
    "Dataset",
    "load",
    "parse_idx",
    "parse_libsvm",
    "partition",
    "read_mnist",
]

Features: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = NDArray[np.float32] | NDArray[np.int64]

NAMES: Final = ("digits", "mnist35", "ijcnn1", "covtype")

_TIMEOUT_S = 30
_DIRICHLET_TRIES = 1000
_DIRICHLET_MAX = 1e6
_COVTYPE_ROWS = 581_012
_ARRAYS = "sha256 of the float32 arrays"
_LIBSVM_URL = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary/"
_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"


class DataError(RuntimeError):
    """A data file is missing, damaged, or not the file it should be."""


@dataclass(frozen=True)
class Dataset:
    """A classification data set, already split and scaled.

    Attributes
    ----------
    name : str
        One of `NAMES`.
    train_x : ndarray of float32, shape (n, p)
        Training features; the last column is the constant 1.
    train_y : ndarray, shape (n,)
        Training labels: -1/+1 (float32) where `classes` is 2, otherwise class
        indices ``0..classes-1`` (int64).
    test_x : ndarray of float32, shape (m, p)
        Test features, laid out as `train_x`.
    test_y : ndarray, shape (m,)
        Test labels, coded as `train_y`.
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
class _Source:
    """One data file: its folder, name, public base URL and content digest."""

    folder: str
    file: str
    base: str
    digest: str | None  # "algorithm:hex" of the content, or of what it is parsed to
    features: int = 0  # columns of LIBSVM text

    @property
    def url(self) -> str:
        return self.base + self.file


def _mnist(file: str, md5: str) -> _Source:
    return _Source("mnist", file, _MNIST_URL, f"md5:{md5}")


def _libsvm(folder: str, file: str, features: int, sha256: str | None) -> _Source:
    digest = None if sha256 is None else f"{_ARRAYS}:{sha256}"
    return _Source(folder, file, _LIBSVM_URL, digest, features)


_MNIST = {
    "train": (
        _mnist("train-images-idx3-ubyte.gz", "6bbc9ace898e44ae57da46a324031adb"),
        _mnist("train-labels-idx1-ubyte.gz", "a25bea736e30d166cdddb491f175f624"),
    ),
    "t10k": (
        _mnist("t10k-images-idx3-ubyte.gz", "2646ac647ad5339dbf082846283269ea"),
        _mnist("t10k-labels-idx1-ubyte.gz", "27ae3e4e09519cfbb04c329615203637"),
    ),
}
_IJCNN1_TRAIN = _libsvm(
    "ijcnn1",
    "ijcnn1.bz2",
    22,
    "73fe5615d17dc16ef8a47b4dc51114ad8ffcd452e7ca6c24b8697b2e7626e287",
)
_IJCNN1_TEST = _libsvm(
    "ijcnn1",
    "ijcnn1.t.bz2",
    22,
    "2c258f2453f3cd2eb61b55ebad272948b493cb3f8e2aa4d3823d619a05820ca5",
)
_COVTYPE = _libsvm(
    "covtype",
    "covtype.libsvm.binary.bz2",
    54,
    "e71942d1634f540e93b7e8e08788cba6b2b1ef333d28194efd2fed5c2ae75f62",
)
_COVTYPE_SCALED = _libsvm("covtype", "covtype.libsvm.binary.scale.bz2", 54, None)


# --- finding, downloading and checking files ---------------------------------


def _cache_dir() -> Path:
    named = os.environ.get("LASG_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "lasg-flwr"


def _folders(source: _Source, data_dir: Path | None) -> list[Path]:
    """Return the folders to search for a file, first choice first."""
    named = os.environ.get("LASG_DATA")
    roots = [data_dir, Path(named) if named else None]
    found = [f for r in roots if r is not None for f in (r / source.folder, r)]
    return [*found, _cache_dir() / source.folder]


def _verify(content: bytes, source: _Source, where: str) -> None:
    """Raise `DataError` where the content is not the expected one."""
    if source.digest is None:
        return
    algorithm = source.digest.partition(":")[0]
    name = "sha256" if algorithm == _ARRAYS else algorithm
    hasher = hashlib.new(name, content, usedforsecurity=False)
    found = f"{algorithm}:{hasher.hexdigest()}"
    if found != source.digest:
        raise DataError(
            f"{where}: the content is not that of {source.file}: "
            f"expected {source.digest}, found {found}. Replace the file "
            f"(public source: {source.url})."
        )


def _decompress(packed: bytes, source: _Source, where: str) -> bytes:
    """Return the checked, uncompressed content of a .gz or .bz2 file."""
    unpack = gzip.decompress if source.file.endswith(".gz") else bz2.decompress
    try:
        content = unpack(packed)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(
            f"{where}: cannot be decompressed ({error}). Replace the file "
            f"(public source: {source.url})."
        ) from error
    if source.digest is not None and not source.digest.startswith(_ARRAYS):
        _verify(content, source, where)
    return content


def _write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _download(source: _Source) -> bytes:
    """Fetch a file, keep it in the cache, return its uncompressed content."""
    with urllib.request.urlopen(source.url, timeout=_TIMEOUT_S) as response:
        packed: bytes = response.read()
    content = _decompress(packed, source, source.url)
    if source.features:
        _checked_arrays(content, source, source.url)
    _write_atomic(_cache_dir() / source.folder / source.file, packed)
    return content


def _missing(sources: Sequence[_Source], data_dir: Path | None) -> str:
    """Say what was looked for, where, and what to do about it."""
    files = " or ".join(source.file for source in sources)
    folders = ", ".join(str(folder) for folder in _folders(sources[0], data_dir))
    return (
        f"{files} not found in {folders}, and {sources[-1].url} could not be "
        f"downloaded. Put the file into one of these folders, or name the folder "
        f"that holds it with LASG_DATA or --data-dir."
    )


def _content(sources: Sequence[_Source], data_dir: Path | None) -> bytes:
    """Return the content of the first source found; download the last if none."""
    return _found(sources, data_dir)[0]


def _found(
    sources: Sequence[_Source], data_dir: Path | None
) -> tuple[bytes, _Source, str]:
    """Return the content of the first source found, which it is, and where."""
    for source in sources:
        for folder in _folders(source, data_dir):
            path = folder / source.file
            if path.is_file():
                content = _decompress(path.read_bytes(), source, str(path))
                return content, source, str(path)
    try:
        return _download(sources[-1]), sources[-1], sources[-1].url
    except (OSError, HTTPException) as error:
        raise DataError(f"{_missing(sources, data_dir)} Cause: {error}") from error


# --- parsing ------------------------------------------------------------------


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """Parse an uncompressed idx file of unsigned bytes (the MNIST format).

    Parameters
    ----------
    content : bytes
        The whole file: magic number, big-endian sizes, then the values.

    Returns
    -------
    ndarray of uint8
        The values, in the shape the header states: (n, 28, 28) for MNIST images,
        (n,) for MNIST labels.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"not an idx file of bytes: it begins with {content[:4]!r}")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"idx header is cut: {len(content)} of {start} bytes")
    shape = tuple(np.frombuffer(content[4:start], dtype=">u4").tolist())
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"idx header states shape {shape}, but {len(content) - start} values came"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def parse_libsvm(content: bytes, features: int) -> tuple[Features, NDArray[np.float32]]:
    """Parse uncompressed LIBSVM text into dense arrays.

    Parameters
    ----------
    content : bytes
        Lines ``label index:value ...``; indices run from 1 to `features`.
    features : int
        Number of columns; entries that a line leaves out are 0.

    Returns
    -------
    x : ndarray of float32, shape (n, features)
        Feature values.
    y : ndarray of float32, shape (n,)
        Labels as they are written.
    """
    try:
        sparse, labels = load_svmlight_file(
            io.BytesIO(content),
            n_features=features,
            dtype=np.float32,
            zero_based=False,
        )
    except ValueError as error:
        raise DataError(f"not LIBSVM text of {features} features: {error}") from error
    return sparse.toarray(), labels.astype(np.float32)


def _libsvm_arrays(
    sources: Sequence[_Source], data_dir: Path | None
) -> tuple[Features, NDArray[np.float32]]:
    """Return the checked arrays of the first LIBSVM file found."""
    return _checked_arrays(*_found(sources, data_dir))


def _checked_arrays(
    content: bytes, source: _Source, where: str
) -> tuple[Features, NDArray[np.float32]]:
    x, y = parse_libsvm(content, source.features)
    _verify(x.tobytes() + y.tobytes(), source, where)
    return x, y


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
    if part not in _MNIST:
        raise ValueError(f"part is {part!r}: choose 'train' or 't10k'")
    images, labels = (parse_idx(_content([s], data_dir)) for s in _MNIST[part])
    return images, labels


# --- the data sets ------------------------------------------------------------


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


def _ijcnn1_part(source: _Source, data_dir: Path | None) -> tuple[Features, Labels]:
    x, y = _libsvm_arrays([source], data_dir)
    return _with_constant(x), _signs(y, 1, -1, "ijcnn1")


def _load_ijcnn1(data_dir: Path | None) -> Dataset:
    """IJCNN 2001 challenge data as distributed, p = 23."""
    train = _ijcnn1_part(_IJCNN1_TRAIN, data_dir)
    return Dataset("ijcnn1", *train, *_ijcnn1_part(_IJCNN1_TEST, data_dir), classes=2)


def _load_covtype(data_dir: Path | None) -> Dataset:
    """Covertype, label 2 (+1) against 1 (-1), p = 55; test: index % 10 == 9."""
    x, y = _libsvm_arrays([_COVTYPE, _COVTYPE_SCALED], data_dir)
    if len(y) != _COVTYPE_ROWS:
        raise DataError(f"covtype: {len(y)} rows, expected {_COVTYPE_ROWS}")
    features = _with_constant(_min_max(x))
    return _hold_out("covtype", features, _signs(y, 2, 1, "covtype"), 10, classes=2)


_LOADERS = {
    "digits": _load_digits,
    "mnist35": _load_mnist35,
    "ijcnn1": _load_ijcnn1,
    "covtype": _load_covtype,
}


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Load a data set by name.

    Parameters
    ----------
    name : {"digits", "mnist35", "ijcnn1", "covtype"}
        digits: 8x8 digits, 10 classes, every 6th example is test. mnist35: MNIST
        3 (+1) against 5 (-1). ijcnn1: as distributed. covtype: label 2 (+1)
        against 1 (-1), columns min-max scaled, every 10th example is test.
    data_dir : Path, optional
        Folder to search before the one that ``LASG_DATA`` names.

    Returns
    -------
    Dataset
        Features of shape (n, p), the constant 1 in the last column.

    Raises
    ------
    ValueError
        The name is unknown.
    DataError
        A file is missing and cannot be downloaded, or is not the expected one.
    """
    if name not in _LOADERS:
        raise ValueError(f"dataset is {name!r}: choose one of {', '.join(NAMES)}")
    return _LOADERS[name](data_dir)


# --- partitions ---------------------------------------------------------------


def partition(
    labels: Labels, workers: int, scheme: str, seed: int
) -> list[NDArray[np.int64]]:
    """Cut the examples into one part per worker.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        Label of each example.
    workers : int
        Number of parts M, 1 <= M <= n.
    scheme : str
        "iid": a random permutation cut into nearly equal parts. "by-label": a
        stable sort by label cut into nearly equal parts (the seed has no effect).
        "dirichlet:A": each class is spread over the workers in proportions drawn
        from a symmetric Dirichlet(A), drawn again until no part is empty.
    seed : int
        Seed of the random draws.

    Returns
    -------
    list of ndarray of int64
        M arrays of example indices; each index 0..n-1 is in exactly one.
    """
    if not 1 <= workers <= len(labels):
        raise ValueError(
            f"workers is {workers}: choose 1 to {len(labels)} (the number of examples)"
        )
    rng = np.random.default_rng(seed)
    if scheme == "iid":
        return np.array_split(rng.permutation(len(labels)), workers)
    if scheme == "by-label":
        return np.array_split(np.argsort(labels, kind="stable"), workers)
    return _dirichlet(labels, workers, _concentration(scheme), rng)


def _concentration(scheme: str) -> float:
    """Return the A of "dirichlet:A"."""
    kind, _, number = scheme.partition(":")
    try:
        value = float(number) if kind == "dirichlet" else math.nan
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ValueError(
            f"scheme is {scheme!r}: choose 'iid', 'by-label' or 'dirichlet:A' "
            f"with a number A, for example 'dirichlet:0.5'"
        )
    if not 0 < value <= _DIRICHLET_MAX:
        raise ValueError(
            f"scheme is {scheme!r}: choose an A with 0 < A <= {_DIRICHLET_MAX:g}"
        )
    return value


def _dirichlet(
    labels: Labels, workers: int, concentration: float, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Draw Dirichlet partitions until no part is empty."""
    members = [np.flatnonzero(labels == value) for value in np.unique(labels)]
    for _ in range(_DIRICHLET_TRIES):
        spread = [_spread(m, workers, concentration, rng) for m in members]
        parts = [np.concatenate(part) for part in zip(*spread, strict=True)]
        if all(len(part) > 0 for part in parts):
            return parts
    raise ValueError(
        f"scheme 'dirichlet:{concentration:g}' left a worker without examples in "
        f"all {_DIRICHLET_TRIES} draws: choose a larger A or fewer workers than "
        f"{workers}"
    )


def _spread(
    members: NDArray[np.int64],
    workers: int,
    concentration: float,
    rng: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """Cut one class at random into parts of Dirichlet proportions."""
    shares = rng.dirichlet(np.full(workers, concentration))
    cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
    return np.split(rng.permutation(members), cuts)
