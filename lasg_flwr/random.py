"""Counter-based random generators, keyed by run seed, worker key and round.

A draw depends on nothing but its key, so a run can be repeated, a worker needs no
generator state between rounds, and every process draws the same numbers.
"""

from typing import Any

import numpy as np

BATCH, CODEC = 0, 1
"""The streams of one worker and round: its minibatch, its rounding."""
DOWNLINK = 3
"""The stream of the server's rounding, where it codes its steps; 2 draws samples."""

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


class KeyedGenerators:
    """The generators of one worker: one object, keyed anew for each round.

    It draws what `keyed_generator` would, without building a generator each time,
    which costs as much as a small gradient. A generator is good until the next call.

    Parameters
    ----------
    seed, key : int
        See `keyed_generator`.

    Examples
    --------
    >>> generators = KeyedGenerators(1, 2)
    >>> a = [generators.at(k).random() for k in (3, 4, 3)]
    >>> a == [keyed_generator(1, 2, k).random() for k in (3, 4, 3)]
    True
    """

    def __init__(self, seed: int, key: int) -> None:
        self.seed = seed
        self._generator = keyed_generator(seed, key, 0)
        self._state: dict[str, Any] = dict(self._generator.bit_generator.state)
        self._counter = self._state["state"]["counter"]

    def at(self, round_: int, stream: int = BATCH) -> np.random.Generator:
        """Return the generator of a round and stream."""
        self._counter[1] = stream
        self._counter[2] = round_
        self._generator.bit_generator.state = self._state
        return self._generator
