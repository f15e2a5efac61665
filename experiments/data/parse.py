"""Data files parsed: the idx format, and LIBSVM text."""

import io
import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_svmlight_file

Features: TypeAlias = NDArray[np.float32]


class DataError(RuntimeError):
    """A data file is missing, damaged, or not the file it should be."""


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """Parse an uncompressed idx file of unsigned bytes (the MNIST format)."""
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
    """Parse uncompressed LIBSVM text into dense arrays, (n, features) and (n,).

    Indices run from 1 to `features`; entries that a line leaves out are 0.
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
