"""The gate for numbers that peers send: their range, by what is computed from them.

A number that passes can neither raise nor overflow in anything that follows: W stays an
exact sum of whole numbers below 2^53, h_m = h_m + decode stays within float32 for 2^28
uploads of the largest values, and counters stay whole numbers below 2^63.
"""

from math import isfinite

from ..checks import MOST_EVALUATIONS, MOST_EXAMPLES
from .messages import Reply
from .refusals import Refusal, RefusedReply

LARGEST_VALUE = float(2**100)
"""Magnitude of one value of a decoded vector; honest gradients are nowhere near."""


def check_numbers(reply: Reply) -> None:
    """Raise `RefusedReply` unless the numbers of a reply's header can be used."""
    ratio = reply.smoothness_ratio
    _inside("examples", reply.examples, 1, MOST_EXAMPLES)
    _inside("gradient evaluations", reply.gradient_evaluations, 0, MOST_EVALUATIONS)
    if ratio is not None and not (isfinite(ratio) and ratio >= 0):
        detail = f"a smoothness ratio of {ratio!r}, expected a finite one >= 0"
        raise RefusedReply(Refusal.BAD_HEADER, detail)


def _inside(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        detail = f"{value} {name}, expected {least} to {most}"
        raise RefusedReply(Refusal.BAD_HEADER, detail)
