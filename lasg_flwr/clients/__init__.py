"""Flower clients: `LasgNumPyClient`, and `lasg_mod` for existing ClientApps."""

from .mod import lasg_mod
from .numpy_client import LasgNumPyClient, worker_key

__all__ = ["LasgNumPyClient", "lasg_mod", "worker_key"]
