"""`tests.problems.gradients`, as the tests of experiments/ know it."""

from tests.problems.gradients import perceptron_gradients

__all__ = ["perceptron_gradients"]
