"""The protocol: two state machines, what they say, and what they keep."""

from .server import LasgServer
from .serving import Task
from .state import ServerState, Slot, WorkerState
from .worker import LasgWorker

__all__ = ["LasgServer", "LasgWorker", "ServerState", "Slot", "Task", "WorkerState"]
