"""Flower strategies: `LasgStrategy`, and `LegacyLasgStrategy` for older projects."""

from .lasg import LasgStrategy
from .legacy import LegacyLasgStrategy
from .reports import LasgResult

__all__ = ["LasgResult", "LasgStrategy", "LegacyLasgStrategy"]
