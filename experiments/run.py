"""A run: one method with one seed, and everything that determines its result."""

from dataclasses import dataclass, fields
from typing import Any

from lasg_flwr.codecs.assignment import assigned_codecs
from lasg_flwr.config import MemoryName, Settings
from lasg_flwr.optim.schedules import (
    Constant,
    Cosine,
    Decreasing,
    Exponential,
    Schedule,
)
from lasg_flwr.oracles.batches import BatchSchedule
from lasg_flwr.rules import LAG, PS, PSE, VR, WK1, WK2, Always, Rule

from .batches import Batch
from .data import check_name

RULES: dict[str, type[Rule[Any]]] = {
    "sgd": Always,
    "lag": LAG,
    "wk1": WK1,
    "wk2": WK2,
    "ps": PS,
    "pse": PSE,
    "vr": VR,
    "local-sgd": Always,
    "fedprox": Always,
    "sparse-local-sgd": Always,
}
SPARSE = "sparse-local-sgd"
LOCAL = ("local-sgd", "fedprox", SPARSE)
"""What sends updates of a model even where H = 1."""
_ALWAYS_NAMED = (
    *("dataset", "partition", "method", "workers", "iterations"),
    *("learning_rate", "seed"),
)


@dataclass(frozen=True)
class Run:
    """One method with one seed.

    Attributes
    ----------
    dataset, partition : str
        The data, and how they are spread.
    method, codec, memory : str
        What runs: one of `RULES`, a codec, what an upload is relative to.
    workers, iterations, seed : int
        M, local iterations in all (K = iterations / H rounds), seed of everything.
    learning_rate : float
        η, of the server's steps or of the local ones.
    evaluate_every : int
        Iterations from one evaluation to the next.
    local_steps, max_delay, d_max : int
        H, D, d_max.
    c : float, optional
        Threshold constant, in units of 1/η²; None is the rule's own.
    batch_size, batch_fraction : optional
        Size of a minibatch, or its share of a worker's data; none: all of it.
    proximal : float
        Of `fedprox`: μ of its term μ/2 ‖w − θ^k‖².
    top_k : tuple of float or int
        Of `sparse-local-sgd`: shares (below 1) or numbers of the coordinates that the
        devices keep, cycled over them, where no other codec is named.
    batch_growth, initial_batch : optional
        Of `sparse-local-sgd`: ρ and b^(0); None is the batch of the other methods.
    downlink : str
        How the model travels to the workers: ``dense``, or the codec of its steps.
    schedule : str
        η by round k: ``constant``, ``cosine``, ``decay:γ`` for η γ^k, ``inverse:K0``
        for η / (1 + k/K0).
    stop_at : float, optional
        The run ends at the first evaluated loss at or below this.

    Raises
    ------
    ValueError
        If a value is out of range, or does not go with another.
    """

    dataset: str = "digits"
    partition: str = "iid"
    method: str = "wk2"
    workers: int = 10
    iterations: int = 1000
    learning_rate: float = 0.1
    seed: int = 0
    codec: str = "dense"
    memory: MemoryName = "innovation"
    evaluate_every: int = 10
    local_steps: int = 1
    max_delay: int = 100
    d_max: int = 10
    c: float | None = None
    batch_size: int | None = None
    batch_fraction: float | None = None
    proximal: float = 0.1
    top_k: tuple[int | float, ...] = (0.01,)
    batch_growth: float = 1.0
    initial_batch: int | None = None
    schedule: str = "constant"
    stop_at: float | None = None
    downlink: str = "dense"

    def __post_init__(self) -> None:
        check_name(self.dataset)
        if self.method not in RULES:
            known = ", ".join(RULES)
            raise ValueError(f"unknown method {self.method!r}: choose from {known}")
        positive = ("workers", "iterations", "learning_rate", "evaluate_every")
        for name in (*positive, "local_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        fraction = self.batch_fraction
        if fraction is not None and self.batch_size is not None:
            raise ValueError("give batch_size or batch_fraction, not both")
        if fraction is not None and not 0.0 < fraction <= 1.0:
            raise ValueError(f"batch_fraction must lie in (0, 1], got {fraction}")
        self.step_sizes, self.rule(), self.batches(1)
        top_k_codec(self.top_k)
        memory, codec = self.memory_and_codec
        name = RULES[self.method].name
        Settings(name, codec, memory, "per-worker", self.seed, self.downlink)

    @property
    def steps(self) -> int:
        """H of the method: plain `sgd` never takes local steps."""
        return 1 if self.method == "sgd" else self.local_steps

    @property
    def is_local(self) -> bool:
        """Whether workers send updates of a model, for which the server's step is 1."""
        return self.steps > 1 or self.method in LOCAL

    @property
    def rounds(self) -> int:
        """K."""
        return -(-self.iterations // self.steps)

    @property
    def evaluate_rounds(self) -> int:
        """Rounds from one evaluation to the next."""
        return max(1, self.evaluate_every // self.steps)

    @property
    def batch(self) -> Batch:
        """The minibatch size."""
        return Batch(self.batch_size, self.batch_fraction)

    @property
    def step_sizes(self) -> Schedule:
        """η_k."""
        eta, (kind, _, number) = self.learning_rate, self.schedule.partition(":")
        try:
            if self.schedule == "constant":
                return Constant(eta)
            if self.schedule == "cosine":
                return Cosine(eta, self.rounds)
            if kind == "decay":
                return Exponential(eta, float(number))
            if kind == "inverse":
                k0 = float(number)
                return Decreasing(2 / (eta * k0), k0)
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"schedule {self.schedule!r}: {error}") from None
        raise ValueError(
            f"unknown schedule {self.schedule!r}: choose constant, cosine, decay:γ "
            "such as decay:0.9, or inverse:K0"
        )

    @property
    def memory_and_codec(self) -> tuple[MemoryName, str]:
        """What really runs: sparse local SGD has error memory and Top-k.

        Examples
        --------
        >>> Run(method="sparse-local-sgd", top_k=(0.01, 20)).memory_and_codec
        ('error', 'topk:fraction=0.01;topk:k=20')
        """
        if self.method != SPARSE:
            return self.memory, self.codec
        dense = self.codec == "dense"
        return "error", top_k_codec(self.top_k) if dense else self.codec

    def rule(self, smoothness: tuple[float, ...] = (1.0,)) -> Rule[Any]:
        """Return the rule; PS needs the L_m."""
        names = ("c", "d_max", "max_delay")
        options: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.c is None:
            del options["c"]
        if self.method == "ps":
            options["smoothness"] = smoothness
        return RULES[self.method](**options)

    def batches(self, batch_size: int) -> BatchSchedule:
        """Return b^(0) and ρ for a worker whose batch is `batch_size` otherwise."""
        initial = batch_size if self.initial_batch is None else self.initial_batch
        return BatchSchedule(initial, self.batch_growth)

    @property
    def spec(self) -> dict[str, Any]:
        """What the store of results knows the run by.

        Other fields at their default are left out: one that is added later leaves the
        results that exist where they are.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        default = {field.name: field.default for field in fields(self)}
        named = {
            k: v for k, v in values.items() if k in _ALWAYS_NAMED or v != default[k]
        }
        return {"kind": "job", **named}

    def __str__(self) -> str:
        name = f"{self.dataset} {self.partition} {self.method}"
        if self.codec != "dense":
            name += f" {self.codec} {self.memory}"
        shown = ("c", "local_steps", "max_delay", "d_max", "proximal")
        changed = [n for n in shown if n in self.spec]
        rest = "".join(f" {n.replace('_', '-')}={getattr(self, n):g}" for n in changed)
        if self.downlink != "dense":
            rest += f" down {self.downlink}"
        if self.schedule != "constant":
            rest += f" {self.schedule}"
        return f"{name} η={self.learning_rate:g}{rest} seed {self.seed}"


def top_k_codec(top_k: tuple[int | float, ...]) -> str:
    """Return the codec cycle of shares (below 1) and numbers of coordinates.

    Examples
    --------
    >>> top_k_codec((0.01, 20))
    'topk:fraction=0.01;topk:k=20'
    """
    spec = ";".join(f"topk:{'fraction' if k < 1 else 'k'}={k}" for k in top_k)
    assigned_codecs(spec)
    return spec
