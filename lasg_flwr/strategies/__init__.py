"""Flower strategies: `LasgStrategy` for the Message API."""

from .strategy import LasgResult, LasgStrategy

__all__ = ["LasgResult", "LasgStrategy"]
