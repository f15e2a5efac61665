"""Load the data sets of the experiments and cut them into worker shards."""

from pathlib import Path
from typing import Final

from . import made_up
from .dataset import Dataset, Labels, NetworkData
from .linear import LOADERS
from .mnist import load_mnist, read_mnist
from .parse import DataError, Features, parse_idx, parse_libsvm
from .partitions import partition
from .shakespeare import load_shakespeare
from .tiny_imagenet import load_tiny_imagenet

__all__ = [
    "NAMES",
    "NETWORK_NAMES",
    "DataError",
    "Dataset",
    "Features",
    "Labels",
    "NetworkData",
    "check_name",
    "is_network",
    "load",
    "load_network_data",
    "parse_idx",
    "parse_libsvm",
    "partition",
    "read_mnist",
]

NETWORK_LOADERS: Final = {
    "mnist": load_mnist,
    "shakespeare": load_shakespeare,
    "tiny-imagenet": load_tiny_imagenet,
}
NAMES: Final = tuple(LOADERS)
NETWORK_NAMES: Final = tuple(NETWORK_LOADERS)


def is_network(name: str) -> bool:
    """Return whether the data are for a network."""
    return name in NETWORK_LOADERS or name in made_up.LOADERS


def check_name(name: str) -> None:
    """Raise `ValueError` for a name that `load` and `load_network_data` do not know."""
    made = made_up.PREFIX
    count = name.removeprefix(made)
    if name in NAMES or is_network(name) or (name != count and count.isdigit()):
        return
    known = ", ".join((*NAMES, *NETWORK_NAMES, *made_up.LOADERS, f"{made}N"))
    raise ValueError(f"unknown data set {name!r}: choose one of {known}")


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Load the data of a linear model.

    digits: 8x8 digits, 10 classes, every 6th example is test. mnist35: MNIST 3 (+1)
    against 5 (-1). ijcnn1: as distributed. covtype: label 2 (+1) against 1 (-1),
    columns min-max scaled, every 10th example is test. synthetic-N: N made-up examples
    of two classes. `data_dir` is searched before the folder that ``LASG_DATA`` names.

    Raises
    ------
    ValueError
        The name is unknown.
    DataError
        A file is missing and cannot be downloaded, or is not the expected one.
    """
    if name.startswith(made_up.PREFIX):
        return made_up.load_logistic(name)
    if name not in LOADERS:
        raise ValueError(f"dataset is {name!r}: choose one of {', '.join(NAMES)}")
    return LOADERS[name](data_dir)


def load_network_data(name: str, data_dir: Path | None = None) -> NetworkData:
    """Load the data of a network; errors as in `load`.

    mnist: as distributed. shakespeare: characters, by speaking role; every tenth
    sequence of a role is test. tiny-imagenet: test is the validation part. For the
    others see `experiments.data.made_up`.
    """
    if name in made_up.LOADERS:
        return made_up.LOADERS[name](data_dir)
    if name not in NETWORK_LOADERS:
        raise ValueError(
            f"dataset is {name!r}: choose one of {', '.join(NETWORK_NAMES)}"
        )
    return NETWORK_LOADERS[name](data_dir)
