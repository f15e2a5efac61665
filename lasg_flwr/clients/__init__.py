"""Flower clients: `LasgNumPyClient`."""

from .numpy_client import LasgNumPyClient, worker_key

__all__ = ["LasgNumPyClient", "worker_key"]
