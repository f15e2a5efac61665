"""Flower strategies: `LasgStrategy`, and `LegacyLasgStrategy` for older projects."""

from .legacy import LegacyLasgStrategy
from .result import LasgResult
from .strategy import LasgStrategy

__all__ = ["LasgResult", "LasgStrategy", "LegacyLasgStrategy"]
