"""What a worker computes: the base class of oracles, local steps, batch schedules.

`lasg_flwr.oracles.torch` makes an oracle of any PyTorch model; it alone needs PyTorch.
"""

from .base import BatchedGradient, Oracle
from .batches import BatchSchedule, ScheduledBatches
from .local import LocalSteps
from .wrapper import OracleWrapper

__all__ = [
    "BatchSchedule",
    "BatchedGradient",
    "LocalSteps",
    "Oracle",
    "OracleWrapper",
    "ScheduledBatches",
]
