"""The command ``lasg-flwr``: a new app, a run's picture, a small comparison."""

from .commands import app

__all__ = ["app"]
