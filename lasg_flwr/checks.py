"""What comes from outside: converters for real numbers, whole numbers and JSON."""

import json
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any

MOST_EXAMPLES = 1 << 40
"""Training examples of one worker: W, their sum, stays exact in float64."""

MOST_EVALUATIONS = 1 << 31
"""Gradient evaluations of one round: their sum over a run stays below 2^63."""


def real(
    name: str,
    value: Any,
    *,
    least: float = -inf,
    above: float = -inf,
    most: float = inf,
    below: float = inf,
    hint: str = "",
) -> float:
    """Return a finite number as a float; any `numbers.Real` will do.

    Parameters
    ----------
    name : str
        What the number is called in an error.
    value : object
        What the user gave.
    least, above : float, optional
        The smallest value allowed, or one that it must exceed.
    most, below : float, optional
        The largest value allowed, or one that it must stay below.
    hint : str, optional
        What the error says besides.

    Raises
    ------
    ValueError
        If it is no number, not finite, or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> real("c", np.float32(0.5), least=0)
    0.5
    >>> real("c", -1, least=0)
    Traceback (most recent call last):
      ...
    ValueError: c must be finite and >= 0, got -1
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        number = _as_float(value)
        inside = least <= number <= most and above < number < below
        if isfinite(number) and inside:
            return number
    else:
        raise ValueError(f"{name} must be a number, got {value!r}{hint}")
    limits = _range(least, above, most, below)
    raise ValueError(f"{name} must {limits}, got {value!r}{hint}")


def whole(
    name: str, value: Any, *, least: int = 0, most: float = inf, hint: str = ""
) -> int:
    """Return a whole number as an int; any `numbers.Integral` but a bool will do.

    Parameters
    ----------
    name, value, hint
        See `real`.
    least, most : int, optional
        The range.

    Raises
    ------
    ValueError
        If it is no whole number, or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> whole("bits", np.int64(3), least=2, most=16)
    3
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
        if least <= number <= most:
            return number
    limit = f" >= {least}" if most == inf else f" from {least} to {most}"
    raise ValueError(f"{name} must be an integer{limit}, got {value!r}{hint}")


def json_value(text: str | bytes) -> Any:
    """Return what a JSON text says; ValueError for anything else, however deep.

    Python's own reader raises RecursionError for lists within lists within lists.

    Examples
    --------
    >>> json_value("[1, 2]")
    [1, 2]
    >>> json_value("[" * 100_000)
    Traceback (most recent call last):
      ...
    ValueError: JSON that is nested too deeply
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def quoted(said: Any, most: int = 300) -> str:
    r"""Return what a peer says, for the log: one line, printable, cut.

    Parameters
    ----------
    said : object
        A text, an exception, or anything that is shown as one.
    most : int (default: 300)
        Characters at most.

    Examples
    --------
    >>> quoted("line\nnext \x1b[31mred")
    'line\\nnext \\x1b[31mred'
    >>> quoted("x" * 10**6, most=10)
    'xxxxxxx...'
    """
    text = str(said)
    cut = text[: most + 1]
    if not cut.isprintable():
        cut = "".join(c if c.isprintable() else _escaped(c) for c in cut)
    return cut if len(cut) <= most else f"{cut[: most - 3]}..."


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer or fraction beyond all floats
        return inf


def _range(least: float, above: float, most: float, below: float) -> str:
    low = least if least > -inf else above
    high = most if most < inf else below
    if low == -inf:
        return "be finite"
    if high == inf:
        return f"be finite and {'>=' if least > -inf else '>'} {low:g}"
    opening = "[" if least > -inf else "("
    closing = "]" if most < inf else ")"
    return f"lie in {opening}{low:g}, {high:g}{closing}"
