"""Data that only the reproduction has: made up, or a part of other data.

``synthetic-N`` is the logistic regression of Figure 2, of which the paper gives no
size. ``tiny-imagenet-50`` is the first 50 classes of Tiny ImageNet in 32 pixels, with
weights to start from that were trained on the other 150. The others are what quick
versions run on, random and of a few examples, so that nothing need be downloaded.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset, NetworkData
from .tiny_imagenet import load_tiny_imagenet

_CLASSES, _PER_CLASS, _PIXELS = 50, 100, 32
_TRAIN, _TEST = 240, 60
PREFIX = "synthetic-"
FEATURES, SEED = 50, 2021


def load_logistic(name: str) -> Dataset:
    """Return N examples of 50 Gaussian features and a constant, for "synthetic-N".

    Labels are drawn from the logistic model, P(y = 1 | x) = 1/(1 + exp(−xᵀθ)), with
    θ of standard normals; another N examples are for testing.

    Examples
    --------
    >>> load_logistic("synthetic-100").train_x.shape
    (100, 51)
    """
    count = int(name.removeprefix(PREFIX))
    rng = np.random.default_rng(SEED)
    raw = rng.standard_normal((2 * count, FEATURES))
    odds = 1 / (1 + np.exp(-raw @ rng.standard_normal(FEATURES)))
    y = np.where(rng.random(len(raw)) < odds, np.float32(1), np.float32(-1))
    x = np.ones((len(raw), FEATURES + 1), np.float32)
    x[:, :-1] = raw
    return Dataset(name, x[:count], y[:count], x[count:], y[count:], classes=2)


def part_of(data: NetworkData, name: str, classes: int) -> NetworkData:
    """Return the examples of the first `classes` classes under another name."""
    train, test = data.train_y < classes, data.test_y < classes
    return NetworkData(
        name, data.train_x[train], data.train_y[train], data.test_x[test],
        data.test_y[test], classes, data.groups[train],
    )  # fmt: skip


@lru_cache(maxsize=1)  # pretraining takes minutes
def _tiny_imagenet(data_dir: Path | None) -> NetworkData:
    from ..pretraining import pretrain

    whole = small_images(load_tiny_imagenet(data_dir))
    other = whole.train_y >= _CLASSES
    weights = pretrain(
        whole.train_x[other], whole.train_y[other] - _CLASSES, whole.classes - _CLASSES
    )
    part = part_of(whole, f"tiny-imagenet-{_CLASSES}", _CLASSES)
    return replace(part, pretrained=weights)


def small_images(whole: NetworkData) -> NetworkData:
    """Return 100 training images a class and 32 pixels, whatever archive was there.

    The full archive has 500 of 64 pixels: the first 100 are kept, and every 2 x 2
    pixels become their mean. The part with 32 pixels is that already, shrunk in its own
    way.
    """
    order = np.argsort(whole.train_y, kind="stable")
    counts = np.bincount(whole.train_y)
    starts = np.cumsum(counts) - counts
    kept = np.sort(np.concatenate([order[s : s + _PER_CLASS] for s in starts]))
    return replace(
        whole,
        train_x=_halved(whole.train_x[kept]),
        train_y=whole.train_y[kept],
        test_x=_halved(whole.test_x),
        groups=whole.groups[kept],
    )


def _halved(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if images.shape[-1] == _PIXELS:
        return images
    n, colours, size, _ = images.shape
    blocks = images.reshape(n, colours, size // 2, 2, size // 2, 2)
    halved: NDArray[np.uint8] = np.rint(blocks.mean(axis=(3, 5))).astype(np.uint8)
    return halved


def _images(name: str, shape: tuple[int, ...]) -> NetworkData:
    """Return noisy copies of ten random images, which are the classes."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, 255, (10, *shape))
    y = np.arange(_TRAIN + _TEST) % 10
    x = centres[y] + rng.normal(0, 60, (len(y), *shape))
    return _split(name, x.clip(0, 255).astype(np.uint8), y, 10, y)


def _text() -> NetworkData:
    """Return sequences that count upwards with now and then a random character."""
    rng = np.random.default_rng(0)
    count, length, characters = _TRAIN + _TEST, 20, 12
    start = rng.integers(characters, size=(count, 1))
    codes = (start + np.arange(length + 1)) % characters
    noise = rng.random(codes.shape) < 0.1
    codes[noise] = rng.integers(characters, size=int(noise.sum()))
    groups = np.arange(count) % 10
    return _split("shakespeare", codes[:, :-1], codes[:, 1:], characters, groups)


def _split(
    name: str,
    x: NDArray[Any],
    y: NDArray[np.int64],
    classes: int,
    groups: NDArray[np.int64],
) -> NetworkData:
    n = _TRAIN
    return NetworkData(name, x[:n], y[:n], x[n:], y[n:], classes, groups[:n])


LOADERS: dict[str, Callable[[Path | None], NetworkData]] = {
    "tiny-imagenet-50": _tiny_imagenet,
    "synthetic-mnist": lambda _: _images("mnist", (1, 28, 28)),
    "synthetic-tiny-imagenet": lambda _: _images("tiny-imagenet-50", (3, 32, 32)),
    "synthetic-shakespeare": lambda _: _text(),
}
"""Data of networks, by name."""
