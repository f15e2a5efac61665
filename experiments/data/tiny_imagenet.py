"""Tiny ImageNet: 200 classes of small colour photographs."""

import io
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .dataset import NetworkData
from .files import first_found, read_content
from .parse import DataError
from .sources import TINY_IMAGENET, TINY_IMAGENET_32

_ROOT = "tiny-imagenet-200"


def load_tiny_imagenet(data_dir: Path | None) -> NetworkData:
    """Images of shape (3, s, s), bytes: s = 64, or 32 where only that part is there.

    Test examples are the validation images, as the test images have no labels.
    """
    content = _archive(data_dir)
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            return read_archive(archive)
    except (BadZipFile, KeyError, ValueError, OSError) as error:
        raise DataError(f"not an archive of Tiny ImageNet: {error}") from error


def _archive(data_dir: Path | None) -> bytes:
    """Return the full archive, the 32-pixel part if only that is there, or download."""
    sources = [TINY_IMAGENET, TINY_IMAGENET_32]
    found = first_found(sources, data_dir)
    return read_content([TINY_IMAGENET if found is None else found], data_dir)


def read_archive(archive: ZipFile) -> NetworkData:
    """Read training and validation images from an archive."""
    wnids = archive.read(f"{_ROOT}/wnids.txt").decode().split()
    classes = {wnid: number for number, wnid in enumerate(wnids)}
    train = sorted(n for n in archive.namelist() if _is_training_image(n))
    y = np.array([classes[name.split("/")[2]] for name in train], np.int64)
    rows = archive.read(f"{_ROOT}/val/val_annotations.txt").decode().splitlines()
    pairs = [row.split("\t")[:2] for row in rows]
    test = [f"{_ROOT}/val/images/{file}" for file, _ in pairs]
    test_y = np.array([classes[wnid] for _, wnid in pairs], np.int64)
    return NetworkData(
        "tiny-imagenet", _images(archive, train), y, _images(archive, test), test_y,
        len(wnids), y,
    )  # fmt: skip


def _is_training_image(name: str) -> bool:
    return name.startswith(f"{_ROOT}/train/") and name.endswith(".JPEG")


def _images(archive: ZipFile, names: list[str]) -> NDArray[np.uint8]:
    """Return images as (n, 3, s, s); grey ones get three equal channels."""
    images = [
        np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
        for name in names
    ]
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
