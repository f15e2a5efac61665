"""Server steps, one idea a file, and step-size schedules."""

from .adam import Adam, AMSGrad
from .base import STEPS, ServerStep, step_from
from .schedules import (
    Constant,
    Cosine,
    Decreasing,
    Exponential,
    Schedule,
    schedule_from,
)
from .sgd import SGD, Momentum

STEPS.discover(__name__)

__all__ = [
    "SGD",
    "STEPS",
    "AMSGrad",
    "Adam",
    "Constant",
    "Cosine",
    "Decreasing",
    "Exponential",
    "Momentum",
    "Schedule",
    "ServerStep",
    "schedule_from",
    "step_from",
]
