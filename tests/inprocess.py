"""The in-process Grid, under the name by which the tests of experiments/ know it."""

from experiments.inprocess import InProcessGrid

__all__ = ["InProcessGrid"]
