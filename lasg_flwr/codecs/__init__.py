"""The codecs, one file each, and their registry."""

from functools import lru_cache

from ..registry import discover, parse, spec_of
from .base import Codec
from .dense import Dense
from .topk import TopK

CODECS: dict[str, type[Codec]] = discover(__name__, Codec)  # type: ignore[type-abstract]
"""All codecs by name; a new file in this folder is found by itself."""


def codec_from(spec: "str | Codec") -> Codec:
    """Return the codec of a string form such as ``"dense"`` or ``"topk:k=10"``.

    Examples
    --------
    >>> codec_from("topk:fraction=0.1")
    TopK(k=None, fraction=0.1)
    >>> codec_from("zip")
    Traceback (most recent call last):
      ...
    ValueError: unknown codec 'zip': choose one of dense, topk
    """
    return spec if isinstance(spec, Codec) else _parsed(spec)


@lru_cache(maxsize=64)
def _parsed(spec: str) -> Codec:
    return parse(spec, CODECS, "codec")


__all__ = ["CODECS", "Codec", "Dense", "TopK", "codec_from", "spec_of"]
