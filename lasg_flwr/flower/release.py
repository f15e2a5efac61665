"""Which releases of Flower this package was tested with."""

import re
from functools import cache
from importlib.metadata import version
from logging import WARNING

from flwr.common import log

LOWEST, NEWEST = (1, 36), (1, 42)
"""The releases, lowest and newest, that the tests run on."""


@cache
def warn_if_untested(release: str | None = None) -> bool:
    """Log one warning if Flower is newer than the newest release tested.

    Parameters
    ----------
    release : str, optional
        Flower's version; left out, that of the one installed.

    Returns
    -------
    bool
        Whether it was said.

    Examples
    --------
    >>> warn_if_untested("1.40.1")
    False
    """
    release = version("flwr") if release is None else release
    if number_of(release) <= NEWEST:
        return False
    low, high = (".".join(map(str, bound)) for bound in (LOWEST, NEWEST))
    log(
        WARNING,
        "lasg: flwr %s is newer than the releases that lasg-flwr was tested with, %s "
        "to %s: if something fails, install one of those",
        release,
        low,
        high,
    )
    return True


def number_of(release: str) -> tuple[int, int]:
    """Return the first two numbers of a version.

    Examples
    --------
    >>> number_of("1.42.0.dev20260101"), number_of("2.0rc1")
    ((1, 42), (2, 0))
    """
    first, second, *_ = [*re.findall(r"\d+", release), "0", "0"]
    return int(first), int(second)
