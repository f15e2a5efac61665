"""Examples cut into one part for each worker."""

import math

import numpy as np
from numpy.typing import NDArray

from .dataset import Labels

_DIRICHLET_TRIES = 1000
_DIRICHLET_MAX = 1e6


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
        "iid": a random permutation cut into nearly equal parts. "by-label": a stable
        sort by label cut into nearly equal parts. "dirichlet:A": each class is spread
        in proportions drawn from a symmetric Dirichlet(A), drawn again until no part is
        empty. "natural": the `workers` largest labels, each a part of its own; the
        other examples are left out.
    seed : int
        Seed of the random draws.

    Returns
    -------
    list of ndarray of int64
        Indices; none is in two parts, and but for "natural" each is in one.
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
    if scheme == "natural":
        return _natural(labels, workers)
    return _dirichlet(labels, workers, _concentration(scheme), rng)


def _natural(labels: Labels, workers: int) -> list[NDArray[np.int64]]:
    values, counts = np.unique(labels, return_counts=True)
    if workers > len(values):
        raise ValueError(
            f"workers is {workers}, but there are {len(values)} natural parts: choose "
            "fewer workers"
        )
    largest = np.argsort(-counts, kind="stable")[:workers]
    return [np.flatnonzero(labels == values[i]) for i in largest]


def _concentration(scheme: str) -> float:
    """Return the A of "dirichlet:A"."""
    kind, _, number = scheme.partition(":")
    try:
        value = float(number) if kind == "dirichlet" else math.nan
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ValueError(
            f"scheme is {scheme!r}: choose 'iid', 'by-label', 'natural' or "
            f"'dirichlet:A' with a number A, for example 'dirichlet:0.5' (--partition "
            "on the command line)"
        )
    if not 0 < value <= _DIRICHLET_MAX:
        raise ValueError(
            f"scheme is {scheme!r}: choose an A with 0 < A <= {_DIRICHLET_MAX:g} "
            "(--partition on the command line)"
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
