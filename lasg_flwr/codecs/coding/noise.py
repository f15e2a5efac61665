"""Counter-based random numbers, one for each coordinate.

A codec draws one 64-bit key from its generator; the number of coordinate i is a hash
of (key, i). It does not depend on how a vector is cut into blocks, on threads, or on
whether NumPy or compiled code computes it.
"""

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from .threads import over_blocks

U64 = NDArray[np.uint64]
_NONE = np.zeros(0, np.int64)

GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def draw_key(rng: np.random.Generator | None) -> int:
    """Draw the key of one encoding.

    Raises
    ------
    ValueError
        If there is no generator.
    """
    if rng is None:
        raise ValueError(
            "this codec draws random numbers: pass rng, for instance "
            "lasg_flwr.random.keyed_generator(seed, key, round, CODEC)"
        )
    return int(rng.integers(0, 1 << 64, dtype=np.uint64))


def hashes(key: int, start: int, count: int) -> U64:
    """Return the numbers of coordinates `start` to `start + count` − 1.

    Number i is output i of SplitMix64 (Steele, Lea and Flood, 2014) with seed `key`.

    Examples
    --------
    >>> [hex(v) for v in hashes(0, 0, 2).tolist()]
    ['0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4']
    >>> hashes(7, 3, 2).tolist() == hashes(7, 0, 5)[3:].tolist()
    True
    """
    z = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    z *= np.uint64(GOLDEN)
    z += np.uint64(key & _MASK)
    z ^= z >> np.uint64(30)
    z *= np.uint64(MIX_1)
    z ^= z >> np.uint64(27)
    z *= np.uint64(MIX_2)
    z ^= z >> np.uint64(31)
    return z


def pick(key: int, size: int, count: int) -> NDArray[np.int64]:
    """Return `count` of `size` indices, increasing: those of the smallest hashes.

    Every subset is equally likely; of equal hashes the lower index wins.

    Examples
    --------
    >>> pick(1, 10, 3).tolist() == pick(1, 10, 3).tolist()
    True
    """
    if count == 0:
        return _NONE
    if count >= size:
        return np.arange(size, dtype=np.int64)
    expected = (count + 8 * sqrt(count) + 32) / size
    if expected < 1:
        found = _below(key, size, np.uint64(int(expected * 2**64)))
        if found[0].size >= count:
            return _smallest(*found, count)
    return _smallest(np.arange(size), hashes(key, 0, size), count)


def _below(key: int, size: int, limit: np.uint64) -> tuple[NDArray[np.int64], U64]:
    """Return the indices, increasing, whose hashes are below `limit`, and these."""
    found: dict[int, tuple[NDArray[np.int64], U64]] = {}

    def collect(start: int, stop: int) -> None:
        values = hashes(key, start, stop - start)
        near = np.flatnonzero(values < limit)
        found[start] = near + start, values[near]

    over_blocks(collect, size)
    indices, values = zip(*(found[i] for i in sorted(found)), strict=True)
    return np.concatenate(indices), np.concatenate(values)


def _smallest(indices: NDArray[np.int64], values: U64, count: int) -> NDArray[np.int64]:
    limit = np.partition(values, count - 1)[count - 1]
    chosen = values < limit
    ties = np.flatnonzero(values == limit)
    chosen[ties[: count - np.count_nonzero(chosen)]] = True
    picked: NDArray[np.int64] = indices[chosen]
    return picked
