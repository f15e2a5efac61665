"""What commands share: one line for an error, a folder for results, plain tables."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from .data import DataError

WIDTH = 100
"""Columns that tables may take even where a terminal is narrower, or none."""


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn errors of ours into one line and exit code 2."""
    try:
        yield
    except (ValueError, DataError) as error:
        Console(stderr=True).print(f"error: {error}", style="bold red", markup=False)
        raise typer.Exit(2) from None


def make_folder(out: Path) -> None:
    """Make the folder `out` before any run, so that no result is lost.

    Raises
    ------
    ValueError
        If it is a file, or cannot be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--out {out}: {error.strerror}; choose a folder that can be written"
        ) from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise ValueError(f"--out {out}: not writable; choose a folder that is")


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows with equal columns, numbers with four digits."""
    table = Table(title=title)
    for name, value in rows[0].items():
        table.add_column(name.replace("_", " "), no_wrap=isinstance(value, str))
    for row in rows:
        values = (f"{x:.4g}" if isinstance(x, float) else x for x in row.values())
        table.add_row(*("" if x is None else str(x) for x in values))
    Console(width=max(Console().width, WIDTH)).print(table)


def write_json(path: Path | None, found: Mapping[str, Any]) -> None:
    """Write what was measured, if a file is named."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=2) + "\n")
