"""The public sources of the data files, and what they must hold."""

from dataclasses import dataclass
from typing import Final

ARRAYS: Final = "sha256 of the float32 arrays"
_LIBSVM_URL = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary/"
_SHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
)
_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
_TINY_IMAGENET_URL = "http://cs231n.stanford.edu/"
_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"


@dataclass(frozen=True)
class Source:
    """One data file: its folder, name, public base URL and content digest."""

    folder: str
    file: str
    base: str
    digest: str | None  # "algorithm:hex" of the content, or of what it is parsed to
    features: int = 0  # columns of LIBSVM text

    @property
    def url(self) -> str:
        """Where the file can be downloaded."""
        return self.base + self.file


def _mnist(file: str, md5: str) -> Source:
    return Source("mnist", file, _MNIST_URL, f"md5:{md5}")


def _libsvm(folder: str, file: str, features: int, sha256: str | None) -> Source:
    digest = None if sha256 is None else f"{ARRAYS}:{sha256}"
    return Source(folder, file, _LIBSVM_URL, digest, features)


MNIST = {
    "train": (
        _mnist("train-images-idx3-ubyte.gz", "6bbc9ace898e44ae57da46a324031adb"),
        _mnist("train-labels-idx1-ubyte.gz", "a25bea736e30d166cdddb491f175f624"),
    ),
    "t10k": (
        _mnist("t10k-images-idx3-ubyte.gz", "2646ac647ad5339dbf082846283269ea"),
        _mnist("t10k-labels-idx1-ubyte.gz", "27ae3e4e09519cfbb04c329615203637"),
    ),
}
IJCNN1_TRAIN = _libsvm(
    "ijcnn1",
    "ijcnn1.bz2",
    22,
    "73fe5615d17dc16ef8a47b4dc51114ad8ffcd452e7ca6c24b8697b2e7626e287",
)
IJCNN1_TEST = _libsvm(
    "ijcnn1",
    "ijcnn1.t.bz2",
    22,
    "2c258f2453f3cd2eb61b55ebad272948b493cb3f8e2aa4d3823d619a05820ca5",
)
COVTYPE = _libsvm(
    "covtype",
    "covtype.libsvm.binary.bz2",
    54,
    "e71942d1634f540e93b7e8e08788cba6b2b1ef333d28194efd2fed5c2ae75f62",
)
COVTYPE_SCALED = _libsvm("covtype", "covtype.libsvm.binary.scale.bz2", 54, None)
SHAKESPEARE = tuple(
    Source("shakespeare", file, _SHAKESPEARE_URL, f"sha256:{_SHAKESPEARE_SHA256}")
    for file in ("tinyshakespeare.txt.gz", "input.txt")
)
"""The same text, compressed or as it is downloaded."""
TINY_IMAGENET = Source(
    "tiny-imagenet",
    "tiny-imagenet-200.zip",
    _TINY_IMAGENET_URL,
    "md5:90528d7ca1a48142e341f4ef8d21d0de",
)
TINY_IMAGENET_32 = Source(
    "tiny_imagenet_32px",
    "tiny-imagenet-200-32px-100per.zip",
    "",
    "md5:8f920ab73a2bf28937713b3530cf60bf",
)
"""A part of it, 100 training images a class, scaled to 32 pixels; not public."""
