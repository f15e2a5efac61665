"""`tests.problems.codec_cases`, as the tests of experiments/ know it."""

from tests.problems.codec_cases import needs_range_coder

__all__ = ["needs_range_coder"]
