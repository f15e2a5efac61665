"""What the records and metrics of a Message-API app are called, and how it is told."""

from collections.abc import Mapping
from typing import Any

from flwr.app import Error
from flwr.common import Scalar
from flwr.common.constant import ErrorCode

from ..checks import quoted
from ..protocol.messages import OLDER_KEY

OWN = "lasg"
SEED_KEY = "lasg-seed"
"""In a round's config, as an app sees it: equal in the two runs that are compared."""
_TOLD = (SEED_KEY, OLDER_KEY)
APP_ARRAYS_KEY = "lasg.app-arrays"
APP_CONFIG_KEY = "lasg.app-config"
"""In a request's config: how the records of the app are called."""
APP_WEIGHT_KEY = "lasg.app-weight"
"""Likewise: which metric of the app's reply is the weight of its update."""
SHORT_KEY = "lasg.short"
"""Likewise: the server does without the records that its older API insists on."""
ARRAYS_KEY = "arrays"
CONFIG_KEY = "config"
EXAMPLES_KEY = "num-examples"
_REASON = 1000
USUAL = {
    APP_ARRAYS_KEY: ARRAYS_KEY,
    APP_CONFIG_KEY: CONFIG_KEY,
    APP_WEIGHT_KEY: EXAMPLES_KEY,
}
"""What they are called if a request does not say it."""


def app_keys(arrays: str, config: str, weight: str = EXAMPLES_KEY) -> dict[str, str]:
    """Return the config entries that tell clients other names than the usual.

    Examples
    --------
    >>> app_keys("model", "config")
    {'lasg.app-arrays': 'model'}
    """
    asked = dict(zip(USUAL, (arrays, config, weight), strict=True))
    return {key: name for key, name in asked.items() if name != USUAL[key]}


def is_own(name: str) -> bool:
    """Return whether an entry of a config or of metrics is this package's.

    Examples
    --------
    >>> is_own("lasg.update"), is_own("lasgna")
    (True, False)
    """
    return name == OWN or name.startswith(f"{OWN}.")


def check_config(config: Mapping[str, Any], what: str) -> None:
    """Raise ValueError if an entry of a user's config has a name of this package's.

    Examples
    --------
    >>> check_config({"lasg-like": 1, "lr": 0.1}, "train_config")
    >>> check_config({"lasg": 1}, "train_config")
    Traceback (most recent call last):
      ...
    ValueError: train_config has an entry 'lasg': ...
    """
    for name in config:
        if (is_own(name) or name in _TOLD) and name not in (
            *USUAL,
            SHORT_KEY,
        ):  # an earlier start left those
            raise ValueError(
                f"{what} has an entry {quoted(name)!r}: {OWN!r}, names that begin with "
                f"'{OWN}.', and {', '.join(_TOLD)} are this package's own; choose "
                "another name"
            )


def app_names(config: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the entries of a request's config that `app_keys` made."""
    return {name: config[name] for name in USUAL if name in config}


def reason_of(error: Error) -> str:
    """Return what an error says, after the remedy where a mod does not compose."""
    reason = quoted(error.reason or "no reason given", _REASON)
    if error.code != ErrorCode.MOD_FAILED_PRECONDITION:
        return reason
    return (
        "a mod of the ClientApp refused the messages: mods that clip or mask whole "
        "models (differential privacy, secure aggregation) do not compose with lazy "
        f"aggregation, remove them; it says: {reason}"
    )
