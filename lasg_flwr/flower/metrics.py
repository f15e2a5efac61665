"""The gate for metrics: what a MetricRecord can hold, from clients and to the log."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flwr.app import MetricRecord, RecordDict

from ..checks import quoted

MOST_METRICS = 200
"""Metrics of one reply."""

LONGEST_NAME = 100
"""Characters of a metric's name."""

LONGEST_LIST = 10_000
"""Numbers in one metric."""

LEFT_OUT_KEY = "lasg.left-out"
"""In a reply's metrics: names of those that the client could not send."""

_LEAST, _MOST = -(1 << 63), (1 << 64) - 1
_SHOWN = 10


def sorted_out(values: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the metrics that can be sent and aggregated, and the names of the others.

    Numbers are Python's or NumPy's, within what Flower can encode, or lists of at most
    `LONGEST_LIST` of one type; names are printable and short. Strings, bytes and
    booleans pass as well: a NumPyClient may return them, and nobody aggregates them.

    Examples
    --------
    >>> sorted_out({"loss": np.float32(0.5), "n": 2**70, "odd": None, "l": [1, 2]})
    ({'loss': 0.5, 'l': [1, 2]}, ['n (int)', 'odd (NoneType)'])
    """
    good: dict[str, Any] = {}
    odd: list[str] = []
    for name, value in values.items():
        plain = value.item() if isinstance(value, np.generic) else value
        if len(good) < MOST_METRICS and _is_name(name) and _is_value(plain):
            good[name] = plain
        else:
            odd.append(f"{quoted(name, LONGEST_NAME)} ({type(value).__name__})")
    return good, odd


def numbers(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the metrics that are numbers, or lists of them; booleans are 0 and 1."""
    return {
        name: int(value) if isinstance(value, bool) else value
        for name, value in sorted_out(values)[0].items()
        if not isinstance(value, str | bytes)
    }


def without_odd_ones(content: RecordDict) -> RecordDict:
    """Return a reply whose MetricRecords pass the gate; the same one if they do."""
    checked = {key: numbers(r) for key, r in content.metric_records.items()}
    if all(len(checked[key]) == len(r) for key, r in content.metric_records.items()):
        return content
    kept = {key: record for key, record in content.items() if key not in checked}
    return RecordDict({**kept, **{k: MetricRecord(v) for k, v in checked.items()}})


def named(odd: Iterable[str]) -> str:
    """Return the names of metrics that were left out, some of them, as one text."""
    names = list(odd)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and len(name) <= LONGEST_NAME and name.isprintable()


def _is_value(value: Any) -> bool:
    if isinstance(value, list):
        kinds = {type(item) for item in value[:LONGEST_LIST]}
        fits = len(value) <= LONGEST_LIST and len(kinds) <= 1 and kinds <= {int, float}
        return fits and all(_is_value(item) for item in value)
    if type(value) is int:
        return _LEAST <= value <= _MOST
    return isinstance(value, bool | float | str | bytes)
