"""Distributed SGD: everybody uploads in every round."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from .base import Rule


@dataclass(frozen=True)
class Always(Rule[Any]):
    """Upload always: equation (3), distributed SGD.

    Computes one gradient a round and keeps nothing.

    Examples
    --------
    >>> Always().decided_by
    'nobody'
    """

    name: ClassVar[str] = "sgd"
    decided_by: ClassVar[Literal["nobody"]] = "nobody"
