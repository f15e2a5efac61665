"""The codecs, one file each, and their registry."""

from functools import lru_cache

from ..registry import discover, parse, spec_of
from .base import Codec
from .dense import Dense
from .float16 import Float16
from .natural import Natural
from .qsgd import QSGD
from .randk import RandK
from .sign import Sign
from .topk import TopK
from .topk_qsgd import TopKQSGD
from .uniform import Uniform

CODECS: dict[str, type[Codec]] = discover(__name__, Codec)  # type: ignore[type-abstract]
"""All codecs by name; a new file in this folder is found by itself."""


def codec_from(spec: "str | Codec") -> Codec:
    """Return the codec of a string form such as ``"dense"`` or ``"topk:k=10"``.

    Examples
    --------
    >>> codec_from("topk:fraction=0.1")
    TopK(k=None, fraction=0.1)
    >>> round(codec_from("qsgd:bits=4,bucket=256").omega(10_000), 3)
    0.745
    >>> codec_from("zip")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
      ...
    ValueError: unknown codec 'zip': choose one of dense, float16, natural, qsgd, ...
    """
    if isinstance(spec, Codec):
        return spec
    return _parsed(spec) if isinstance(spec, str) else parse(spec, CODECS, "codec")


@lru_cache(maxsize=64)
def _parsed(spec: str) -> Codec:
    return parse(spec, CODECS, "codec")


__all__ = [
    "CODECS",
    "QSGD",
    "Codec",
    "Dense",
    "Float16",
    "Natural",
    "RandK",
    "Sign",
    "TopK",
    "TopKQSGD",
    "Uniform",
    "codec_from",
    "spec_of",
]
