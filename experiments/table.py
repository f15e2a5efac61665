"""The comparison of several runs as a table for the terminal.

Nothing here needs matplotlib: the names that the figures show are made here too,
so that a run is called the same in the table, in the legends and in the text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.table import Table

DISPLAY_NAMES: Final[Mapping[str, str]] = {
    "sgd": "SGD",
    "lag": "LAG-WK",
    "wk1": "LASG-WK1",
    "wk2": "LASG-WK2",
    "ps": "LASG-PS",
    "pse": "LASG-PSE",
    "local-sgd": "local SGD",
    "fedprox": "FedProx",
    "sparse-local-sgd": "sparse local SGD",
}

NOT_REACHED: Final = "not\nreached"
NOTHING: Final = "-"
WHOLE_RUN: Final = "*"

_UNITS: Final = ("B", "kB", "MB", "GB", "TB")

_COLUMNS: Final = (
    "final\nloss",
    "accu-\nracy",
    "uploads",
    "x fewer\nuploads",
    "uploads\nto\ntarget",
    "payload\nup to\ntarget",
    "x less\npayload",
    "down-\nloads",
    "gradient\nevals",
    "seconds",
)


def human_bytes(n: float) -> str:
    """Write a number of bytes with three digits and a decimal unit.

    Parameters
    ----------
    n : float
        The number of bytes, not negative.

    Returns
    -------
    str
        The number with its unit, 1 kB being 1000 bytes.

    Raises
    ------
    ValueError
        If `n` is negative or not finite.

    Examples
    --------
    >>> human_bytes(512)
    '512 B'
    >>> human_bytes(31_400)
    '31.4 kB'
    >>> human_bytes(1_372_304)
    '1.37 MB'
    >>> human_bytes(999_999)
    '1.00 MB'
    """
    if not (math.isfinite(n) and n >= 0):
        raise ValueError(f"a number of bytes is finite and not negative, got {n}")
    if n < 999.5:
        return f"{n:.0f} B"
    value, unit = float(n), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}"
    return f"{digits} {_UNITS[unit]}"


def display_name(run: Mapping[str, Any]) -> str:
    """Return the name of a run as tables and legends show it.

    Parameters
    ----------
    run : Mapping[str, Any]
        A run of the summary, or a row of the history. ``method`` is needed;
        ``codec`` and ``memory`` default to ``"dense"`` and ``"innovation"``.

    Returns
    -------
    str
        The method's name, with the codec where the uploads are not dense and the
        memory where it is of gradients. Of a cycle of codecs the first is named.

    Examples
    --------
    >>> display_name({"method": "wk2", "codec": "dense"})
    'LASG-WK2'
    >>> display_name({"method": "wk2", "codec": "int8", "memory": "gradient"})
    'LASG-WK2 + int8 (gradient memory)'
    >>> display_name({"method": "sgd", "codec": "topk:k=1;topk:k=2;topk:k=3"})
    'SGD + topk:k=1 and 2 more'
    """
    method = str(run["method"])
    name = DISPLAY_NAMES.get(method, method)
    codec = run.get("codec") or "dense"
    if codec != "dense":
        first, *others = codec.split(";")
        name += f" + {first}" + (f" and {len(others)} more" if others else "")
    if run.get("memory") == "gradient":
        name += " (gradient memory)"
    return name


def display_names(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one name per run, telling apart those that differ in local steps.

    Parameters
    ----------
    runs : Sequence[Mapping[str, Any]]
        The runs, as `display_name` takes them.

    Returns
    -------
    list[str]
        The names in the order of `runs`. The number of local steps is appended
        only where two runs would otherwise have the same name.
    """
    names = [display_name(run) for run in runs]
    counts = Counter(names)
    return [
        f"{name}, {_plural(run.get('local_steps', 1), 'local step')}"
        if counts[name] > 1
        else name
        for name, run in zip(names, runs, strict=True)
    ]


def _plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def setting(summary: Mapping[str, Any]) -> str:
    """Return the data set, the partition and the workers in one line.

    Parameters
    ----------
    summary : Mapping[str, Any]
        The summary of a comparison.

    Returns
    -------
    str
        For example ``"digits, dirichlet partition, 10 workers"``.
    """
    workers = _plural(summary["workers"], "worker")
    return f"{summary['dataset']}, {summary['partition']} partition, {workers}"


def comparison_table(summary: Mapping[str, Any]) -> Table:
    """Set the runs of a comparison against the dense SGD run.

    Parameters
    ----------
    summary : Mapping[str, Any]
        The summary that ``python -m experiments compare`` writes.

    Returns
    -------
    rich.table.Table
        One row per run, no wider than 100 columns.
    """
    runs: Sequence[Mapping[str, Any]] = summary["runs"]
    table = Table(
        title=f"{setting(summary)}, {summary['rounds']} rounds",
        caption=_caption(summary, runs),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold",
    )
    table.add_column("method", overflow="fold", min_width=8)
    for header in _COLUMNS:
        table.add_column(header, justify="right", no_wrap=True)
    reference = _reference(runs)
    for name, run in zip(display_names(runs), runs, strict=True):
        # brackets in a codec's name must not be read as markup
        table.add_row(name.replace("[", r"\["), *_cells(run, reference))
    return table


def _reference(runs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the dense SGD run, if there is one."""
    for run in runs:
        if run["method"] == "sgd" and run.get("codec", "dense") == "dense":
            return run
    return None


def _caption(summary: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the target, and what the ratios are of."""
    target = summary.get("target_loss")
    text = "no target loss" if target is None else f"target loss {target:.4g}"
    reference = _reference(runs)
    if reference is None:
        return f"{text}; no dense SGD run to compare with"
    text += "; x fewer: dense SGD's figure over the run's, both up to the target"
    if any(_upload_ratio(run, reference).endswith(WHOLE_RUN) for run in runs):
        text += (
            f"\n{WHOLE_RUN} over the whole runs, as one of the two"
            " did not reach the target"
        )
    return text


def _cells(run: Mapping[str, Any], reference: Mapping[str, Any] | None) -> list[str]:
    """Return the cells of one run, the method's name left out."""
    uploads, size = run["uploads_to_target"], run["uplink_bytes_to_target"]
    return [
        f"{run['final_loss']:.4f}",
        _percentage(run["final_accuracy"]),
        f"{run['uploads']:,}",
        _upload_ratio(run, reference),
        NOT_REACHED if uploads is None else f"{uploads:,}",
        NOT_REACHED if size is None else human_bytes(size),
        _ratio(run, reference, "uplink_bytes_to_target") or NOTHING,
        f"{run['downloads']:,}",
        f"{run['gradient_evaluations']:,}",
        f"{run['seconds']:.1f}",
    ]


def _upload_ratio(run: Mapping[str, Any], reference: Mapping[str, Any] | None) -> str:
    """Return how many times fewer uploads a run needed than dense SGD."""
    to_target = _ratio(run, reference, "uploads_to_target")
    if to_target:
        return to_target
    whole = _ratio(run, reference, "uploads")
    return f"{whole}{WHOLE_RUN}" if whole else NOTHING


def _ratio(
    run: Mapping[str, Any], reference: Mapping[str, Any] | None, key: str
) -> str | None:
    """Return the reference's count over the run's, or None without both."""
    if reference is None or not run[key] or reference[key] is None:
        return None
    ratio = float(reference[key]) / float(run[key])
    return f"{ratio:.0f}x" if ratio >= 99.95 else f"{ratio:.{_decimals(ratio)}f}x"


def _decimals(ratio: float) -> int:
    """Return the decimals that leave a ratio two or three digits."""
    return 1 if ratio >= 0.95 else 2


def _percentage(fraction: float | None) -> str:
    """Return an accuracy in per cent."""
    return NOTHING if fraction is None else f"{100 * fraction:.1f}%"
