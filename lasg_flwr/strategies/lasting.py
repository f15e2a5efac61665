"""Causes of failure that cannot heal: a run ends when all nodes fail for one."""

import re
from collections.abc import Iterable

from flwr.common.constant import ErrorCode

ROUNDS_OF_APP_ERRORS = 3
"""So many rounds in a row may all nodes fail with exceptions of their apps."""

_APP_ERRORS = ("CLIENT_APP_RAISED_EXCEPTION", "CLIENT_APP_CRASHED")
_AT_ONCE = ("LOAD_CLIENT_APP_EXCEPTION", "MOD_FAILED_PRECONDITION", "INVALID_FAB")
_OUR_ERRORS = re.compile(r"\b(LasgError|WireError|CompositionError)\b")
_RECORD = re.compile(r"KeyError\W+(arrays|config)\b")
_LONGEST = 1000

WITHOUT_MOD = (
    "the clients answer as FedAvg's do: give the ClientApp mods=[lasg_mod], or wrap "
    "the client of start_client, lasg_client(client); both are in lasg_flwr.clients"
)
MOD_ORDER = (
    "the app, or a mod before lasg_mod, does not find the record {record!r}: give the "
    "ClientApp mods=[lasg_mod], and lasg_mod as the first of its mods"
)


def code_named(*names: str) -> set[int]:
    """Return Flower's error codes of these names, as far as this release has them."""
    return {getattr(ErrorCode, name) for name in names if hasattr(ErrorCode, name)}


def remedied(reason: str) -> str:
    """Return a reason, after the remedy of a frequent cause where there is one.

    Examples
    --------
    >>> "as the first of its mods" in remedied("<class 'KeyError'>:<'config'>")
    True
    """
    found = _RECORD.search(reason[:_LONGEST])
    if found is None:
        return reason
    return f"{MOD_ORDER.format(record=found[1])}; it says: {reason}"


def cannot_heal(reason: str, code: int | None) -> bool:
    """Return whether a node that fails like this fails in every round.

    Parameters
    ----------
    reason : str
        What it says.
    code : int or None
        Flower's code of the error; None for a reply that was refused.
    """
    if code in code_named(*_AT_ONCE) or WITHOUT_MOD in reason:
        return True
    return bool(_OUR_ERRORS.search(reason) or _RECORD.search(reason))


def is_app_error(code: int | None) -> bool:
    """Return whether the app itself raised, or ended its process."""
    return code in code_named(*_APP_ERRORS)


class LastingCause:
    """Watches for rounds in which all that were asked failed, and nobody else is well.

    Examples
    --------
    >>> cause = LastingCause()
    >>> cause.close({1: ("LasgError: another model", 2), 2: ("no reply", None)}, {})
    >>> cause.close({1: ("LasgError: another model", 2)}, {})
    'LasgError: another model'
    """

    def __init__(self) -> None:
        self._rounds = 0

    def close(
        self, failed: dict[int, tuple[str, int | None]], well: Iterable[int]
    ) -> str | None:
        """Return the cause for which the run must end, if there is one.

        Parameters
        ----------
        failed : dict of int to (str, int or None)
            Reason and code of every node asked; empty if one gave a valid answer.
        well : iterable of int
            Nodes whose last answer was valid.
        """
        if not failed or list(well):
            self._rounds = 0
            return None
        causes = list(failed.values())
        self._rounds += 1
        if not all(is_app_error(code) for _, code in causes):
            self._rounds = 0
        if (
            all(cannot_heal(*cause) for cause in causes)
            or self._rounds >= ROUNDS_OF_APP_ERRORS
        ):
            return causes[0][0]
        return None
