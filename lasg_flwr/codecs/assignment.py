"""A codec for every worker: the entries of an assignment, by worker key.

Devices of different uplinks send different amounts: worker m uses entry m mod n of the
run's n codecs. Both sides find it from the settings and the worker's key, so that
nothing has to be agreed with a stranger. Written as one string, the entries stand
between semicolons: ``"topk:fraction=0.01;topk:fraction=0.02"``. One codec for all is a
cycle of one.
"""

from collections.abc import Sequence
from functools import lru_cache

from ..registry import spec_of
from .base import Codec, codec_from

MAX_ENTRIES = 1024
"""Length of the longest assignment: it travels in every request."""

_SEPARATOR = ";"

CodecChoice = str | Codec | Sequence[str | Codec]
"""A codec, an assignment as one string, or its entries."""


def assigned_codecs(choice: CodecChoice) -> tuple[Codec, ...]:
    """Return the codecs of an assignment, in order.

    Parameters
    ----------
    choice : str, Codec, or sequence of these
        One codec, or the entries of an assignment.

    Raises
    ------
    ValueError
        For an unknown codec, a bad option, or an assignment that is empty or too long.

    Examples
    --------
    >>> assigned_codecs("topk:k=3;dense")
    (TopK(k=3, fraction=0.01), Dense())
    """
    if isinstance(choice, Codec):
        return (choice,)
    if isinstance(choice, str):
        return _parsed(choice)
    if not isinstance(choice, Sequence):
        return (codec_from(choice),)
    entries = [codec for entry in choice for codec in assigned_codecs(entry)]
    _check_length(len(entries))
    return tuple(entries)


def assignment_spec(choice: CodecChoice) -> str:
    """Return an assignment as one string, defaults left out.

    Examples
    --------
    >>> assignment_spec(["topk:k=3", "topk:fraction=0.01"])
    'topk:k=3;topk'
    """
    return _SEPARATOR.join(spec_of(codec) for codec in assigned_codecs(choice))


def codec_of(spec: str, key: int) -> Codec:
    """Return the codec of the worker `key`: entry key mod n.

    Examples
    --------
    >>> [codec_of("topk:k=3;dense", key).name for key in (0, 1, 2**64 - 2)]
    ['topk', 'dense', 'topk']
    """
    assigned = _parsed(spec)
    return assigned[key % len(assigned)]


@lru_cache(maxsize=64)
def _parsed(spec: str) -> tuple[Codec, ...]:
    _check_length(spec.count(_SEPARATOR) + 1)
    return tuple(codec_from(entry) for entry in spec.split(_SEPARATOR))


def _check_length(length: int) -> None:
    if not 1 <= length <= MAX_ENTRIES:
        raise ValueError(
            f"an assignment of {length} codecs: give 1 to {MAX_ENTRIES}, worker m uses "
            "entry m mod n"
        )
