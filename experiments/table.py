"""The comparison of several runs as a table for the terminal.

Nothing here needs matplotlib: the names that the figures show are made here too,
so that a run is called the same in the table, in the legends and in the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.table import Table

from lasg_flwr.ledger import human_bytes

from . import tables

DISPLAY_NAMES: Final[Mapping[str, str]] = {
    "sgd": "SGD",
    "lag": "LAG-WK",
    "wk1": "LASG-WK1",
    "wk2": "LASG-WK2",
    "ps": "LASG-PS",
    "pse": "LASG-PSE",
    "vr": "VR",
    "local-sgd": "local SGD",
    "fedprox": "FedProx",
    "sparse-local-sgd": "sparse local SGD",
}

NOT_REACHED: Final = "not\nreached"
NOTHING: Final = "-"
WHOLE_RUN: Final = "*"

Run = Mapping[str, Any]

_COLUMNS: Final = (
    "final\nloss",
    "accu-\nracy",
    "uploads\nto\ntarget",
    "x fewer\nuploads",
    "payload\nup to\ntarget",
    "x less\nup",
    "x less\nboth\nways",
    "uploads\nin all",
    "gradient\nevals",
    "seconds",
)
_RATIO: Final = 3
"""Where the ratio of uploads is among them."""


def display_name(run: Mapping[str, Any]) -> str:
    """Return the name of a run as tables and legends show it.

    The method's name, with the codec where the uploads are not dense and the memory
    where it is of gradients. Of a cycle of codecs the first is named.

    Examples
    --------
    >>> display_name({"method": "wk2", "codec": "dense"})
    'LASG-WK2'
    >>> display_name({"method": "wk2", "codec": "int8", "memory": "gradient"})
    'LASG-WK2 + int8 (gradient memory)'
    >>> display_name({"method": "wk2", "downlink": "sign"})
    'LASG-WK2, down sign'
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
    if (downlink := run.get("downlink") or "dense") != "dense":
        name += f", down {downlink}"
    return name


def display_names(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one name per run, with the local steps only where two would be equal."""
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
    """Return the data set, the partition, the workers and the seeds in one line."""
    text = f"{summary['dataset']}, {summary['partition']} partition, "
    text += _plural(summary["workers"], "worker")
    seeds = summary.get("seeds", 1)
    return text + (f", {seeds} seeds" if seeds > 1 else "")


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """Return runs, or rows of runs, that differ in their seed alone, together."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        key = ("method", "codec", "memory", "local_steps", "downlink")
        groups.setdefault(tuple(run.get(name) for name in key), []).append(run)
    return list(groups.values())


def comparison_table(summary: Mapping[str, Any]) -> Table:
    """Set the runs of a summary of ``compare`` against the dense SGD run.

    One row per run, no wider than 100 columns; of several seeds the mean, and the
    standard deviation beneath.
    """
    groups = grouped(summary["runs"])
    reference = next((g for g in groups if _is_dense_sgd(g[0])), None)
    rows = [_cells(group, _paired(group, reference)) for group in groups]
    table = Table(
        title=f"{setting(summary)}, {summary['rounds']} rounds",
        caption=_caption(summary, reference, rows),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold",
    )
    table.add_column("method", overflow="fold", min_width=8)
    for header in _COLUMNS:
        table.add_column(header, justify="right", no_wrap=True)
    names = display_names([group[0] for group in groups])
    for name, cells in zip(names, rows, strict=True):
        # brackets in a codec's name must not be read as markup
        table.add_row(name.replace("[", r"\["), *cells)
    return table


def _is_dense_sgd(run: Run) -> bool:
    ways = (run.get("codec") or "dense", run.get("downlink") or "dense")
    return bool(run["method"] == "sgd" and ways == ("dense", "dense"))


def _paired(group: list[Run], reference: list[Run] | None) -> list[tuple[Run, Run]]:
    """Return each run with the dense SGD of its seed, as far as there is one."""
    others = {run.get("seed"): run for run in reference or []}
    found = [(others.get(run.get("seed")), run) for run in group]
    return [(sgd, run) for sgd, run in found if sgd is not None]


def _caption(
    summary: Mapping[str, Any], reference: list[Run] | None, rows: list[list[str]]
) -> str:
    """Return what the target is, where counts end, and what the ratios are of."""
    target = summary.get("target_loss")
    if target is None:
        text = "no target loss"
    else:
        text = f"target loss {target:.4g}"
        if summary.get("target_is"):
            text += f": {summary['target_is']}"
        text += "\nto target: up to the first evaluated loss at or below it"
    if summary.get("seeds", 1) > 1:
        text += "\nmean and standard deviation of the seeds"
    if reference is None:
        return f"{text}\nno dense SGD run to compare with"
    text += "\nx fewer, x less: dense SGD's figure to target over the run's"
    if any(WHOLE_RUN in row[_RATIO] for row in rows):
        text += (
            f"\n{WHOLE_RUN} over the whole runs, as one of the two"
            " did not reach the target"
        )
    return text


def _cells(group: list[Run], pairs: list[tuple[Run, Run]]) -> list[str]:
    """Return the cells of one run with all its seeds, the method's name left out."""
    fewer = _ratio(pairs, "uploads_to_target")
    if fewer == NOTHING and pairs:
        fewer = _ratio(pairs, "uploads", WHOLE_RUN)
    return [
        _spread(group, "final_loss", lambda x: f"{x:.4f}", "diverged"),
        _spread(group, "final_accuracy", lambda x: f"{100 * x:.1f}%"),
        _spread(group, "uploads_to_target", _whole, NOT_REACHED),
        fewer,
        _spread(group, "uplink_bytes_to_target", human_bytes, NOT_REACHED),
        _ratio(pairs, "uplink_bytes_to_target"),
        _ratio(pairs, "total_bytes_to_target"),
        *(_spread(group, name, _whole) for name in ("uploads", "gradient_evaluations")),
        f"{tables.mean(run['seconds'] for run in group):.1f}",
    ]


def _whole(count: float) -> str:
    return f"{count:,.0f}"


def _spread(
    group: list[Run], key: str, write: Callable[[float], str], none: str = NOTHING
) -> str:
    """Return the mean, and what it varies by; how many have it, if not all do."""
    known = [run[key] for run in group if run[key] is not None]
    if not known:
        return none
    if len(known) < len(group):
        return f"{len(known)} of {len(group)}\n" + none.replace("\n", " ").split()[-1]
    spread = tables.deviation(known)
    return write(tables.mean(known)) + (f"\n± {write(spread)}" if spread else "")


def _ratio(pairs: list[tuple[Run, Run]], key: str, mark: str = "") -> str:
    """Return the mean ratio of the reference's counts over the run's."""
    counts = [(sgd.get(key), run.get(key)) for sgd, run in pairs]
    found = [ours / theirs for ours, theirs in counts if ours and theirs]
    if not found or len(found) < len(pairs):
        return NOTHING
    ratio, spread = tables.mean(found), tables.deviation(found)
    text = f"{ratio:.0f}x" if ratio >= 99.95 else f"{ratio:.{_decimals(ratio)}f}x"
    return text + mark + (f"\n± {spread:.2g}" if spread else "")


def _decimals(ratio: float) -> int:
    """Return the decimals that leave a ratio two or three digits."""
    return 1 if ratio >= 0.95 else 2
