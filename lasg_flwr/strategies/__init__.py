"""Flower strategies: `LasgStrategy`, and `LegacyLasgStrategy` for older projects."""

from .legacy import LegacyLasgStrategy
from .strategy import LasgResult, LasgStrategy

__all__ = ["LasgResult", "LasgStrategy", "LegacyLasgStrategy"]
