"""`tests.problems.real_data`, as the tests of experiments/ know it."""

from tests.problems.real_data import task_or_skip

__all__ = ["task_or_skip"]
