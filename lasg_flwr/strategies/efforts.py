"""What an existing app is best served with, by what it may cost its devices."""

from collections.abc import Mapping
from typing import Any, Literal

Effort = Literal["one-run", "two-runs"]

UPLOADS = "ecsq:error=0.3,least_bits=2,rounds=10"
DOWNLOADS = "ecsq:error=0.1,least_bits=2,rounds=10"
"""How updates of an app, and steps of the server's model, are coded. In its first
rounds a model moves the most, and what comes late then is caught up with late: they get
2 bits a number at least, the next ten 1 bit, and so on, however long the run will be.
"""
OF_TWO_RUNS = "ecsq:error=0.5,least_bits=2,rounds=10"
"""How uploads are coded whose noise is reduced: more may be left out until the next."""

SETTINGS: dict[str, dict[str, Any]] = {
    "one-run": {"rule": "sgd", "memory": "error-feedback", "codec": UPLOADS},
    "two-runs": {
        "rule": "vr:c=1.5,growth=0",
        "memory": "innovation",
        "codec": OF_TWO_RUNS,
    },
}
"""Rule, memory and codec by effort. One run of the app a round: everybody uploads, and
what coding leaves out goes into the next upload. Two runs, at two models with equal
batches: a worker also skips. c is larger than the rule's own, as updates of several
steps are long beside their noise, and does not grow, as a large c diverges where the
server's step is 1."""


def settings_for(effort: Effort, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a strategy for updates of an app; `options` win.

    Parameters
    ----------
    effort : {"one-run", "two-runs"}
        How often the app may run in a round.
    options : mapping
        What the user has chosen besides.

    Raises
    ------
    ValueError
        For another effort.

    Examples
    --------
    >>> settings_for("two-runs", {"codec": "dense"})["rule"]
    'vr:c=1.5,growth=0'
    """
    if effort not in SETTINGS:
        raise ValueError(
            f"effort must be 'one-run' or 'two-runs', got {effort!r}: how often a "
            "ClientApp may run in a round"
        )
    if options.get("config") is not None:
        return dict(options)
    common = {"downlink": DOWNLOADS, "step": 1.0, "weights": "examples"}
    return {**common, **SETTINGS[effort], **options}
