"""Tests of the data sets: loading, checking, downloading and partitioning.

Tests of the real files read the folder that LASG_DATA names and skip where a file
is missing; all others make their files up. No test touches the network.
"""

import bz2
import gzip
import hashlib
import io
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression

from experiments import data
from experiments.data import files, linear, sources

REAL = os.environ.get("LASG_DATA")

MNIST_TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
LIBSVM_TEXT = b"-1 1:0.5 3:2\n1 2:-1.25\n"


def _offline(*args: object, **kwargs: object) -> NoReturn:
    raise urllib.error.URLError("no network in tests")


@pytest.fixture(autouse=True)
def hermetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the network off, empty the cache, hide the real data folder."""
    monkeypatch.setattr(urllib.request, "urlopen", _offline)
    monkeypatch.setenv("LASG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LASG_DATA", raising=False)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept made-up files."""
    monkeypatch.setattr(files, "verify", lambda *args: None)


def _real(*files: str) -> Path:
    """Return the real data folder; skip the test where it lacks a file."""
    if not REAL:
        pytest.skip("LASG_DATA is not set")
    for file in files:
        if not (Path(REAL) / file).is_file():
            pytest.skip(f"{file} is not in the LASG_DATA folder")
    return Path(REAL)


def _mnist_files() -> list[str]:
    return [f"mnist/{s.file}" for pair in sources.MNIST.values() for s in pair]


def _idx(values: ArrayLike) -> bytes:
    array = np.asarray(values, dtype=np.uint8)
    sizes = np.array(array.shape, dtype=">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def _put(path: Path, packed: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed)
    return path


def _put_mnist(folder: Path, images: ArrayLike, labels: ArrayLike) -> None:
    for pair in sources.MNIST.values():
        for source, values in zip(pair, (images, labels), strict=True):
            _put(folder / source.file, gzip.compress(_idx(values)))


# --- parsers ------------------------------------------------------------------


def test_parse_idx_returns_the_shape_of_the_header() -> None:
    values = np.arange(12).reshape(2, 3, 2)
    np.testing.assert_array_equal(data.parse_idx(_idx(values)), values)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\x00\x0d\x01\x00\x00\x00\x00", _idx([1, 2])[:-1], _idx([[1]])[:7]],
)
def test_parse_idx_refuses_damaged_content(content: bytes) -> None:
    with pytest.raises(data.DataError, match="idx"):
        data.parse_idx(content)


def test_parse_libsvm_is_dense_and_one_based() -> None:
    x, y = data.parse_libsvm(LIBSVM_TEXT, features=3)
    np.testing.assert_array_equal(x, [[0.5, 0, 2], [0, -1.25, 0]])
    np.testing.assert_array_equal(y, [-1, 1])
    assert x.dtype == y.dtype == np.float32


@pytest.mark.parametrize("content", [b"1 4:1\n", b"1 0:1\n", b"one 1:1\n"])
def test_parse_libsvm_refuses_bad_text(content: bytes) -> None:
    with pytest.raises(data.DataError, match="LIBSVM text of 3 features"):
        data.parse_libsvm(content, features=3)


# --- finding and checking files -----------------------------------------------


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist35", "train-images-idx3-ubyte.gz"),
        ("ijcnn1", "ijcnn1.bz2"),
        ("covtype", "covtype.libsvm.binary.bz2"),
    ],
)
def test_missing_file_error_says_what_where_and_how(
    name: str, file: str, tmp_path: Path
) -> None:
    with pytest.raises(data.DataError) as caught:
        data.load(name, tmp_path)
    message = str(caught.value)
    for part in (file, str(tmp_path), "https://", "LASG_DATA", "no network in tests"):
        assert part in message
    assert not (tmp_path / "cache").exists()


def test_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASG_DATA", str(tmp_path / "env"))
    folders = files.folders(sources.IJCNN1_TRAIN, tmp_path / "arg")
    expected = ["arg/ijcnn1", "arg", "env/ijcnn1", "env", "cache/ijcnn1"]
    assert folders == [tmp_path / part for part in expected]


@pytest.mark.usefixtures("unchecked")
def test_data_dir_comes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASG_DATA", str(tmp_path / "env"))
    _put(tmp_path / "env/ijcnn1/ijcnn1.bz2", bz2.compress(b"environment"))
    assert files.read_content([sources.IJCNN1_TRAIN], None) == b"environment"
    _put(tmp_path / "arg/ijcnn1.bz2", bz2.compress(b"argument"))
    assert files.read_content([sources.IJCNN1_TRAIN], tmp_path / "arg") == b"argument"


def test_wrong_content_names_file_expected_and_found(tmp_path: Path) -> None:
    path = _put(tmp_path / "ijcnn1/ijcnn1.bz2", bz2.compress(LIBSVM_TEXT))
    with pytest.raises(data.DataError) as caught:
        data.load("ijcnn1", tmp_path)
    x, y = data.parse_libsvm(LIBSVM_TEXT, 22)
    found = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    for part in (str(path), str(sources.IJCNN1_TRAIN.digest), found):
        assert part in str(caught.value)


def test_wrong_mnist_content_is_refused(tmp_path: Path) -> None:
    _put_mnist(tmp_path, np.zeros((1, 28, 28)), [3])
    with pytest.raises(data.DataError, match="expected md5:6bbc9ace"):
        data.load("mnist35", tmp_path)


@pytest.mark.parametrize(
    ("source", "packed"),
    [
        (sources.IJCNN1_TRAIN, bz2.compress(LIBSVM_TEXT)[:-5]),
        (sources.IJCNN1_TRAIN, b"plain text"),
        (sources.MNIST["train"][1], gzip.compress(_idx([3, 5]))[:-5]),
        (sources.MNIST["train"][1], b"plain text"),
    ],
)
def test_damaged_archive_is_refused(
    source: sources.Source, packed: bytes, tmp_path: Path
) -> None:
    _put(tmp_path / source.file, packed)
    with pytest.raises(data.DataError, match="cannot be decompressed"):
        files.read_content([source], tmp_path)


# --- downloads ----------------------------------------------------------------


def _serve(packed: bytes) -> Callable[..., io.BytesIO]:
    def urlopen(url: str, timeout: float) -> io.BytesIO:
        assert url.startswith("https://")
        assert timeout == 30
        return io.BytesIO(packed)

    return urlopen


@pytest.mark.usefixtures("unchecked")
def test_download_is_kept_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = bz2.compress(LIBSVM_TEXT)
    monkeypatch.setattr(urllib.request, "urlopen", _serve(packed))
    assert files.read_content([sources.IJCNN1_TRAIN], None) == LIBSVM_TEXT
    kept = list((tmp_path / "cache").rglob("*.*"))
    assert kept == [tmp_path / "cache/ijcnn1/ijcnn1.bz2"]
    monkeypatch.setattr(urllib.request, "urlopen", _offline)
    assert files.read_content([sources.IJCNN1_TRAIN], None) == LIBSVM_TEXT


@pytest.mark.parametrize("length", [None, -5])
def test_wrong_or_cut_download_is_not_kept(
    length: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = bz2.compress(LIBSVM_TEXT)[:length]
    monkeypatch.setattr(urllib.request, "urlopen", _serve(packed))
    with pytest.raises(data.DataError, match=r"ijcnn1\.bz2"):
        files.read_content([sources.IJCNN1_TRAIN], None)
    assert not (tmp_path / "cache").exists()


def test_broken_connection_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(url: str, timeout: float) -> NoReturn:
        raise IncompleteRead(b"part", 100)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(data.DataError, match="could not be downloaded"):
        files.read_content([sources.COVTYPE], None)


def test_failed_write_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(*args: object) -> NoReturn:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="disk full"):
        files.write_atomic(tmp_path / "folder/file", b"content")
    assert list((tmp_path / "folder").iterdir()) == []


# --- made-up data sets --------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
def test_mnist35_keeps_threes_and_fives(tmp_path: Path) -> None:
    images = np.arange(4)[:, None, None] * np.full((4, 28, 28), 51)
    _put_mnist(tmp_path, images, [5, 0, 3, 5])
    found = data.load("mnist35", tmp_path)
    np.testing.assert_array_equal(found.train_y, [-1, 1, -1])
    np.testing.assert_allclose(found.train_x[:, 0], [0, 0.4, 0.6], rtol=1e-6)
    assert found.test_x.shape == (3, 785)


def _covtype_text(rows: int) -> bytes:
    lines = (f"{1 + i % 2} 1:{i} 2:{-i} 54:7" for i in range(rows))
    return bz2.compress("\n".join(lines).encode())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("source", [sources.COVTYPE, sources.COVTYPE_SCALED])
def test_covtype_scales_splits_and_signs(
    source: sources.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_COVTYPE_ROWS", 21)
    _put(tmp_path / source.file, _covtype_text(21))
    found = data.load("covtype", tmp_path)
    np.testing.assert_allclose(found.test_x[:, 0], [9 / 20, 19 / 20])
    np.testing.assert_allclose(found.test_x[:, 1], [11 / 20, 1 / 20])
    np.testing.assert_array_equal(found.test_y, [1, 1])
    np.testing.assert_array_equal(found.train_y[:4], [-1, 1, -1, 1])
    assert found.train_x[:, 53].max() == 0  # a constant column
    assert found.train_x.shape == (19, 55)


def test_covtype_with_rows_missing_is_refused(tmp_path: Path) -> None:
    _put(tmp_path / sources.COVTYPE_SCALED.file, _covtype_text(21))
    with pytest.raises(data.DataError, match="21 rows, expected 581012"):
        data.load("covtype", tmp_path)


@pytest.mark.usefixtures("unchecked")
def test_unexpected_label_is_refused(tmp_path: Path) -> None:
    _put(tmp_path / "ijcnn1.bz2", bz2.compress(b"1 1:1\n7 1:1\n"))
    with pytest.raises(data.DataError, match=r"ijcnn1: labels \[1.0, 7.0\]"):
        data.load("ijcnn1", tmp_path)


def test_digits_need_no_file() -> None:
    found = data.load("digits")
    assert (found.train_x.shape, found.test_x.shape) == ((1498, 65), (299, 65))
    assert found.train_y.dtype == np.int64
    assert set(found.train_y.tolist()) == set(range(found.classes)) == set(range(10))
    _check_features(found)
    assert found.train_x.max() == 1


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="'cifar': choose one of digits, mnist35"):
        data.load("cifar")
    with pytest.raises(ValueError, match="'test': choose 'train' or 't10k'"):
        data.read_mnist("test")


# --- real data sets -----------------------------------------------------------


def _check_features(found: data.Dataset) -> None:
    for x, y in ((found.train_x, found.train_y), (found.test_x, found.test_y)):
        assert x.dtype == np.float32
        assert len(x) == len(y)
        assert np.isfinite(x).all()
        assert (x[:, -1] == 1).all()


def _positives(labels: data.Labels) -> int:
    assert labels.dtype == np.float32
    assert set(np.unique(labels).tolist()) == {-1, 1}
    return int((labels == 1).sum())


def test_real_mnist_facts() -> None:
    images, labels = data.read_mnist("train", _real(*_mnist_files()))
    assert images.shape == (60_000, 28, 28)
    assert np.bincount(labels).tolist() == MNIST_TRAIN_COUNTS
    assert round(float(images.mean()) / 255, 4) == 0.1307
    assert round(float(images.std()) / 255, 4) == 0.3081


def test_real_mnist35() -> None:
    found = data.load("mnist35", _real(*_mnist_files()))
    _check_features(found)
    assert found.train_x.shape == (6131 + 5421, 785)
    assert (found.train_x.min(), found.train_x.max()) == (0, 1)
    assert _positives(found.train_y) == 6131
    assert (_positives(found.test_y), len(found.test_y)) == (1010, 1902)


def test_real_ijcnn1() -> None:
    found = data.load("ijcnn1", _real("ijcnn1/ijcnn1.bz2", "ijcnn1/ijcnn1.t.bz2"))
    _check_features(found)
    assert (found.train_x.shape, found.test_x.shape) == ((49_990, 23), (91_701, 23))
    assert _positives(found.train_y) == 4_853
    assert _positives(found.test_y) == 8_712
    model = LogisticRegression().fit(found.train_x[:, :-1], found.train_y)
    accuracy = model.score(found.test_x[:, :-1], found.test_y)
    assert accuracy == pytest.approx(0.919, abs=2e-3)


def test_real_covtype() -> None:
    found = data.load("covtype", _real("covtype/covtype.libsvm.binary.bz2"))
    _check_features(found)
    assert (found.train_x.shape, found.test_x.shape) == ((522_911, 55), (58_101, 55))
    assert _positives(found.train_y) + _positives(found.test_y) == 297_711
    low = np.minimum(found.train_x.min(axis=0), found.test_x.min(axis=0))
    high = np.maximum(found.train_x.max(axis=0), found.test_x.max(axis=0))
    assert (low[:-1] == 0).all()
    assert (high == 1).all()
