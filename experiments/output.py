"""What commands share: one line for an error, and a folder for the results."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from .data import DataError


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
