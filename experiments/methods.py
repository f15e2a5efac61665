"""What each method of the comparison is: a rule, and what it needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lasg_flwr.growing import BatchSchedule, GrowingBatches
from lasg_flwr.local import LocalSteps
from lasg_flwr.messages import Memory
from lasg_flwr.oracle import Oracle
from lasg_flwr.rules import LAG, PS, PSE, WK1, WK2, Always, Rule
from lasg_flwr.smoothness import local_steps_smoothness

from .sparse import METHOD as SPARSE_METHOD
from .sparse import top_k_spec
from .tasks import LinearOracle

RULES: dict[str, type[Rule]] = {
    "sgd": Always,
    "lag": LAG,
    "wk1": WK1,
    "wk2": WK2,
    "ps": PS,
    "pse": PSE,
    "local-sgd": Always,
    "fedprox": Always,
    "sparse-local-sgd": Always,
}
LOCAL = ("local-sgd", "fedprox", SPARSE_METHOD)
"""What sends updates of a model even where H = 1."""
SPARSE_TOP_K = (0.01,)
"""What `sparse-local-sgd` keeps where neither k nor another codec is named."""


@dataclass(frozen=True)
class Hyperparameters:
    """Parameters that the methods of one comparison share.

    Attributes
    ----------
    learning_rate : float
        η.
    max_delay, d_max : int
        D and d_max.
    c : float, optional
        Threshold constant; None is 1/η² (1 with local steps).
    local_steps : int
        H.
    proximal : float
        Of `fedprox`: μ of its term μ/2 ‖w − θ^k‖².
    top_k : tuple of float or int
        Of `sparse-local-sgd`: shares (below 1) or numbers of the coordinates that the
        devices keep, cycled over them.
    batch_growth : float
        Of `sparse-local-sgd`: ρ.
    initial_batch : int, optional
        Of `sparse-local-sgd`: b^(0); None is the batch of the other methods.

    Raises
    ------
    ValueError
        If k, ρ or b^(0) is out of range.
    """

    learning_rate: float
    max_delay: int = 100
    d_max: int = 10
    c: float | None = None
    local_steps: int = 1
    proximal: float = 0.1
    top_k: tuple[int | float, ...] = SPARSE_TOP_K
    batch_growth: float = 1.0
    initial_batch: int | None = None

    def __post_init__(self) -> None:
        initial = 1 if self.initial_batch is None else self.initial_batch
        BatchSchedule(initial, self.batch_growth)
        top_k_spec(self.top_k)


def build_rule(
    method: str, parameters: Hyperparameters, oracles: Sequence[LinearOracle]
) -> Rule:
    """Return the rule of `method`, with the smoothness constants that PS needs.

    Raises
    ------
    ValueError
        For an unknown method.
    """
    if method not in RULES:
        raise ValueError(f"unknown method {method!r}: choose from {', '.join(RULES)}")
    options: dict[str, Any] = {
        "c": parameters.c,
        "d_max": parameters.d_max,
        "max_delay": parameters.max_delay,
    }
    if method == "ps":
        options["smoothness"] = tuple(_smoothness(o, parameters) for o in oracles)
    return RULES[method](**options)


def memory_and_codec(
    method: str,
    memory: Memory,
    codec: str,
    top_k: Sequence[int | float] = SPARSE_TOP_K,
) -> tuple[Memory, str]:
    """Return what a method runs with: sparse local SGD has error memory and Top-k.

    Examples
    --------
    >>> memory_and_codec("sparse-local-sgd", "innovation", "dense", (0.01, 20))
    ('error', 'topk:fraction=0.01;topk:k=20')
    >>> memory_and_codec("wk2", "innovation", "dense")
    ('innovation', 'dense')
    """
    if method != SPARSE_METHOD:
        return memory, codec
    return "error", top_k_spec(top_k) if codec == "dense" else codec


def local_steps_of(method: str, parameters: Hyperparameters) -> int:
    """Return H of a method: plain `sgd` never takes local steps."""
    return 1 if method == "sgd" else parameters.local_steps


def wrap(
    oracle: LinearOracle, method: str, parameters: Hyperparameters
) -> tuple[Oracle, float]:
    """Return the oracle that a worker runs, and the server's step size for it."""
    steps = local_steps_of(method, parameters)
    if steps == 1 and method not in LOCAL:
        return oracle, parameters.learning_rate
    inner: Oracle = oracle
    if method == SPARSE_METHOD:
        inner = _grown(oracle, parameters)
    proximal = parameters.proximal if method == "fedprox" else 0.0
    local = LocalSteps(inner, steps, parameters.learning_rate, proximal=proximal)
    return local, 1.0


def _grown(oracle: LinearOracle, parameters: Hyperparameters) -> Oracle:
    initial, growth = parameters.initial_batch, parameters.batch_growth
    if initial is None and growth == 1.0:
        return oracle
    return GrowingBatches(oracle, BatchSchedule(initial or oracle.batch_size, growth))


def _smoothness(oracle: LinearOracle, parameters: Hyperparameters) -> float:
    value = oracle.smoothness()
    if parameters.local_steps == 1:
        return value
    return local_steps_smoothness(
        value, parameters.learning_rate, parameters.local_steps
    )
