"""One rule of each kind."""

from typing import Any

from lasg_flwr.rules import PS, WK1, Rule, rule_from


def every_rule(smoothness: float) -> dict[str, Rule[Any]]:
    """Return all six by name; PS is told this smoothness of every worker."""
    return {
        **{name: rule_from(name) for name in ("sgd", "lag", "wk2", "pse")},
        "wk1": WK1(max_delay=12),
        "ps": PS(smoothness=smoothness),
    }
