"""``lasg-flwr new``: a small app to start from, copied out of this package."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

FOLDER_MARK = "@FOLDER@"
"""Stands for the app's absolute path in the template's files."""
SUFFIX = ".txt"
"""The template's Python files bear it, so that nobody takes them for modules."""


def write_app(folder: Path) -> list[Path]:
    """Write the template to a new folder; return the files.

    Parameters
    ----------
    folder : Path
        Made, with its parents.

    Raises
    ------
    FileExistsError
        If it is there already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: name a new folder")
    place = folder.absolute()
    return [
        _copied(source, place / name.removesuffix(SUFFIX), place)
        for name, source in _template(files(__package__) / "template", "")
    ]


def _template(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name = f"{prefix}{entry.name}"
        found += _template(entry, f"{name}/") if entry.is_dir() else [(name, entry)]
    return found


def _copied(source: Traversable, target: Path, place: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    text = source.read_text("utf-8").replace(FOLDER_MARK, place.as_posix())
    target.write_text(text, "utf-8")
    return target
