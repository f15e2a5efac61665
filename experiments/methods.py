"""What each method of the comparison is: a rule, and what it needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lasg_flwr.growing import BatchSchedule, GrowingBatches
from lasg_flwr.local import LocalSteps
from lasg_flwr.oracle import Oracle
from lasg_flwr.rules import LAG, PS, PSE, WK1, WK2, Always, Rule
from lasg_flwr.schedules import Constant, Decreasing, Schedule
from lasg_flwr.settings import Memory
from lasg_flwr.smoothness import local_steps_smoothness
from lasg_flwr.steps import SGD, ServerStep

from .sparse import DEFAULT_TOP_K, top_k_spec
from .sparse import METHOD as SPARSE_METHOD

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
NO_SMOOTHNESS = (
    "ps needs the smoothness L_m of every worker, which is known for linear models "
    "only: leave ps out of --methods; pse estimates it"
)


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
    k0 : float, optional
        The server's steps are η_k = η / (1 + k/K_0), those of Theorem 3; None is η.
    proximal : float
        Of `fedprox`: μ of its term μ/2 ‖w − θ^k‖².
    top_k : tuple of float or int, optional
        Of `sparse-local-sgd`: shares (below 1) or numbers of the coordinates that the
        devices keep, cycled over them; None is 0.01.
    batch_growth : float, optional
        Of `sparse-local-sgd`: ρ; None is 1.
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
    k0: float | None = None
    proximal: float = 0.1
    top_k: tuple[int | float, ...] | None = None
    batch_growth: float | None = None
    initial_batch: int | None = None

    def __post_init__(self) -> None:
        self.schedule(batch_size=1)
        if self.top_k is not None:
            top_k_spec(self.top_k)

    def schedule(self, batch_size: int) -> BatchSchedule:
        """Return b^(0) and ρ for a worker whose batch is `batch_size` otherwise."""
        initial, growth = self.initial_batch, self.batch_growth
        return BatchSchedule(
            batch_size if initial is None else initial,
            1.0 if growth is None else growth,
        )


def build_rule(
    method: str, parameters: Hyperparameters, oracles: Sequence[Oracle]
) -> Rule:
    """Return the rule of `method`, with the smoothness constants that PS needs.

    Raises
    ------
    ValueError
        For an unknown method, or PS where an oracle does not know its smoothness.
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
    top_k: Sequence[int | float] | None = None,
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
    if codec == "dense":
        codec = top_k_spec(DEFAULT_TOP_K if top_k is None else top_k)
    return "error", codec


def local_steps_of(method: str, parameters: Hyperparameters) -> int:
    """Return H of a method: plain `sgd` never takes local steps."""
    return 1 if method == "sgd" else parameters.local_steps


def wrap(
    oracle: Oracle, method: str, parameters: Hyperparameters
) -> tuple[Oracle, ServerStep]:
    """Return the oracle that a worker runs, and the server's step for it."""
    steps = local_steps_of(method, parameters)
    if steps == 1 and method not in LOCAL:
        return oracle, SGD(_schedule(parameters))
    inner = _grown(oracle, parameters) if method == SPARSE_METHOD else oracle
    proximal = parameters.proximal if method == "fedprox" else 0.0
    local = LocalSteps(inner, steps, parameters.learning_rate, proximal=proximal)
    return local, SGD(1.0)


def _grown(oracle: Oracle, parameters: Hyperparameters) -> Oracle:
    if parameters.initial_batch is None and parameters.batch_growth in (None, 1.0):
        return oracle
    batch_size: int = getattr(oracle, "batch_size", 1)
    return GrowingBatches(oracle, parameters.schedule(batch_size))


def _schedule(parameters: Hyperparameters) -> Schedule:
    eta, k0 = parameters.learning_rate, parameters.k0
    return Constant(eta) if k0 is None else Decreasing(2 / (eta * k0), k0)


def _smoothness(oracle: Oracle, parameters: Hyperparameters) -> float:
    if not hasattr(oracle, "smoothness"):
        raise ValueError(NO_SMOOTHNESS)
    value: float = oracle.smoothness()
    if parameters.local_steps == 1:
        return value
    return local_steps_smoothness(
        value, parameters.learning_rate, parameters.local_steps
    )
