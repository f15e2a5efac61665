"""The rules that say who uploads, one file each.

| rule | decided by | left-hand side |
|---|---|---|
| `Always` | nobody: always upload | |
| `LAG` | worker | (7), two samples |
| `WK1` | worker | (9), against a snapshot |
| `WK2` | worker | (12), two iterates on one sample |
| `PS` | server | (14), known smoothness |
| `PSE` | server | (16), estimated smoothness |
| `VR` | worker | the innovation of a variance-reduced gradient; not the paper's |
"""

from dataclasses import fields, replace
from typing import Any

from ..registry import spec_of as _spec_of
from .always import Always
from .base import RULES, Decision, Outcome, Rule, Seen, ServerRule, WorkerRule, decide
from .lag import LAG
from .ps import PS
from .pse import PSE
from .vr import VR
from .wk1 import WK1
from .wk2 import WK2

RULES.discover(__name__)


def rule_from(spec: "str | Rule[Any]") -> Rule[Any]:
    """Return the rule of a string form such as ``"wk2"`` or ``"wk1:max_delay=50"``.

    Examples
    --------
    >>> rule_from("wk2:c=0.25,d_max=5")
    WK2(c=0.25, d_max=5, max_delay=100)
    >>> rule_from("WK2")
    Traceback (most recent call last):
      ...
    ValueError: unknown rule 'WK2': did you mean 'wk2'? choose one of lag, ps, ...
    """
    return RULES.parse(spec)


def worker_spec(rule: Rule[Any]) -> str:
    """Return the string form that a worker needs: it knows neither c nor L_m.

    Examples
    --------
    >>> worker_spec(PS(c=3.0, smoothness=2.0, max_delay=50))
    'ps:max_delay=50'
    """
    defaults = {f.name: f.default for f in fields(rule)}
    hidden: dict[str, Any] = {name: defaults[name] for name in rule.server_only}
    return _spec_of(replace(rule, **hidden))


__all__ = [
    "LAG",
    "PS",
    "PSE",
    "RULES",
    "VR",
    "WK1",
    "WK2",
    "Always",
    "Decision",
    "Outcome",
    "Rule",
    "Seen",
    "ServerRule",
    "WorkerRule",
    "decide",
    "rule_from",
    "worker_spec",
]
