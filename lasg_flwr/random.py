"""Counter-based random generators, keyed by run seed, worker key and round.

A draw depends on nothing but its key, so a run can be repeated, a worker needs no
generator state between rounds, and every process draws the same numbers.
"""

import numpy as np

BATCH, CODEC = 0, 1
"""The streams of one worker and round: its minibatch, its rounding."""

_WORD = 64
_MASK = (1 << _WORD) - 1


def keyed_generator(
    seed: int, key: int, round_: int, stream: int = BATCH
) -> np.random.Generator:
    """Return the generator of one worker, round and stream.

    Philox4x64 with key ``(seed, key)`` and counter ``(0, stream, round, 0)``.

    Parameters
    ----------
    seed : int
        Seed of the run, ``0 <= seed < 2**64``.
    key : int
        Key of the worker, ``0 <= key < 2**64``.
    round_ : int
        The server's round counter k.
    stream : int (default: 0)
        What the numbers are for: `BATCH` or `CODEC`.

    Examples
    --------
    >>> a = keyed_generator(1, 2, 3).random()
    >>> a == keyed_generator(1, 2, 3).random()
    True
    >>> a == keyed_generator(1, 2, 4).random()
    False
    """
    return np.random.Generator(
        np.random.Philox(
            key=((key & _MASK) << _WORD) | (seed & _MASK),
            counter=(round_ << 2 * _WORD) | (stream << _WORD),
        )
    )
