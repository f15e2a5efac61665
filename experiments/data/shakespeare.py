"""Tiny Shakespeare: next-character prediction, each speaking role a worker's data."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .dataset import NetworkData
from .files import read_content
from .sources import SHAKESPEARE

LENGTH = 50
"""Characters a sequence."""
SHORTEST_ROLE = 1000
"""Roles with fewer characters are left out."""
_TEST_EVERY = 10


def parse_roles(text: str) -> dict[str, str]:
    r"""Return all that each role says.

    Parameters
    ----------
    text : str
        Blocks divided by blank lines; the first line of a block is ``Role:``.

    Returns
    -------
    dict of str to str
        In order of first appearance; blocks of a role are joined by line breaks.

    Examples
    --------
    >>> parse_roles("All:\nSpeak.\n\nBRUTUS:\nNo.\n\nAll:\nCome.")
    {'All': 'Speak.\nCome.\n', 'BRUTUS': 'No.\n'}
    """
    said: dict[str, list[str]] = {}
    for block in text.strip().split("\n\n"):
        role, _, speech = block.strip().partition(":\n")
        if speech:
            said.setdefault(role, []).append(speech + "\n")
    return {role: "".join(parts) for role, parts in said.items()}


def load_shakespeare(data_dir: Path | None) -> NetworkData:
    """Sequences of characters and their next ones; every tenth of a role is test."""
    text = read_content(SHAKESPEARE, data_dir).decode()
    alphabet = np.array(sorted(set(text)))
    roles = [r for r in parse_roles(text).values() if len(r) >= SHORTEST_ROLE]
    parts = [_windows(np.searchsorted(alphabet, list(role))) for role in roles]
    groups = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    test = np.concatenate([_is_test(len(part)) for part in parts])
    windows = np.concatenate(parts)
    x, y = windows[:, :-1], windows[:, 1:]
    return NetworkData(
        "shakespeare", x[~test], y[~test], x[test], y[test], len(alphabet),
        groups[~test],
    )  # fmt: skip


def _windows(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut (n,) into (m, LENGTH + 1): each window begins with the last one's end."""
    count = (len(codes) - 1) // LENGTH
    at = np.arange(count)[:, None] * LENGTH + np.arange(LENGTH + 1)
    windows: NDArray[np.int64] = codes[at]
    return windows


def _is_test(count: int) -> NDArray[np.bool_]:
    is_last: NDArray[np.bool_] = np.arange(count) % _TEST_EVERY == _TEST_EVERY - 1
    return is_last
