"""What every rule offers: who decides, from what, and the state it owns."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import nan
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from ..checks import real, whole
from ..registry import Registry
from ..vectors import F32, F64

S = TypeVar("S", bound=NamedTuple)


class Decision(NamedTuple):
    """Outcome of a rule: whether to upload, and the two sides compared."""

    upload: bool
    lhs: float
    threshold: float


class Seen(NamedTuple):
    """What a worker has computed in a round.

    Attributes
    ----------
    theta : ndarray, shape (p,)
        θ^k.
    round : int
        k.
    gradient : ndarray, shape (p,)
        ∇ℓ(θ^k; ξ^k); not to be written to.
    reference_gradient : ndarray, shape (p,), optional
        The gradient on the same batch ξ^k at the rule's `reference_point`.
    forced : bool
        Whether an upload is due whatever the rule says.
    h : ndarray, shape (p,), optional
        h_m as the worker's memory keeps it.
    keeps_h : bool
        Whether the memory will keep the h_m of this round's upload.
    earlier : NamedTuple, optional
        The rule's state with the worker's latest upload, which the server may not have.
    changes : (ndarray, ndarray), optional
        ∇ℓ(θ^k) − ∇ℓ(reference point) on either half of ξ^k, for rules that halve it.
    """

    theta: F32
    round: int
    gradient: F32
    reference_gradient: F32 | None
    forced: bool
    h: F32 | F64 | None = None
    keeps_h: bool = False
    earlier: Any = None
    changes: tuple[F32, F32] | None = None


class Outcome(NamedTuple, Generic[S]):
    """What a rule makes of a round.

    Attributes
    ----------
    vector : ndarray, shape (p,)
        What to upload, if anything: the worker's estimate of its gradient.
    kept : NamedTuple, optional
        The rule's state if the server keeps the upload that it builds on: after a skip,
        or where this round's upload is lost.
    uploaded : NamedTuple, optional
        The rule's state if this round's upload is accepted.
    lhs : float
        The left-hand side, in units of the gradient's square; NaN if none was needed.
    smoothness_ratio : float, optional
        What the server's half of the rule is told of an upload: (17).
    """

    vector: F32
    kept: S | None
    uploaded: S | None
    lhs: float = nan
    smoothness_ratio: float | None = None


@dataclass(frozen=True)
class Rule(ABC, Generic[S]):
    """A rule that says who uploads in round k.

    A worker uploads if and only if LHS > T^k (equality skips), or when forced. The
    threshold T^k is that of `lasg_flwr.rules.threshold.StepHistory`: c times the mean
    square of the mean gradients of the last d_max rounds, as the server's step measures
    them, see `lasg_flwr.optim.ServerStep.squared_length`.

    A rule is a frozen value. What it remembers of an upload is a NamedTuple of its own
    (`worker_state`) that goes in and out of `update`; worker and checkpoint store it
    without knowing its fields, which are arrays, numbers, strings, None, or NamedTuples
    of these.

    Parameters
    ----------
    c : float (default: 1)
        Threshold constant, c ≥ 0, in units of 1/η_0². 1 is the papers' practical
        choice, far above what the theorems allow: the stale part of a step may be as
        long as the mean gradient. c < 1 keeps a descent direction; c >> 1 diverges
        where η times the smoothness is about 1, as with local steps.
    d_max : int (default: 10)
        Number of past steps in the threshold.
    max_delay : int (default: 100)
        D: a worker whose upload is D rounds old uploads in any case.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    name: ClassVar[str]
    decided_by: ClassVar[Literal["nobody", "worker", "server"]]
    server_only: ClassVar[tuple[str, ...]] = ("c",)
    """Parameters that workers need not know; all others travel in each request."""
    worker_state: ClassVar[type[Any] | None] = None
    """What a worker keeps of an upload: a NamedTuple, or None for nothing."""
    server_state: ClassVar[type[Any] | None] = None
    """What the server keeps of a worker for this rule, likewise."""
    compares_with_h: ClassVar[bool] = False
    """Whether `update` is told `Seen.h`, `keeps_h` and `earlier`."""
    compares_gradients: ClassVar[bool] = False
    """Whether T^k is over ‖∇^{k−d}‖² under SGD as well, as under any other step."""
    stores_iterates: ClassVar[bool] = False
    """Whether the server needs θ^{k−τ} of each worker."""

    c: float = 1.0
    d_max: int = 10
    max_delay: int = 100

    def __post_init__(self) -> None:
        hint = "; it is in units of 1/η²"
        object.__setattr__(self, "c", real("c", self.c, least=0.0, hint=hint))
        for field in ("d_max", "max_delay"):
            value = whole(field, getattr(self, field), least=1)
            object.__setattr__(self, field, value)

    @classmethod
    def check_registration(cls, known: Mapping[str, Any]) -> None:
        """Raise ValueError if a rule from outside this package is not complete."""

    def check(self) -> None:
        """Raise ValueError if the server cannot run this rule as it is."""

    def threshold_scale(self, k: int) -> float:
        """Return the factor on c in round k."""
        return 1.0

    def check_key(self, key: int) -> None:
        """Raise ValueError if the server cannot run this rule with that worker."""

    # the worker's half

    def refreshes(self, state: S | None, round_: int) -> bool:
        """Return whether the rule itself forces an upload, and drops its state."""
        return False

    @property
    def keeps_gradients(self) -> bool:
        """Whether a state may hold `Seen.gradient`: it is a copy of its own then."""
        return self.worker_state is not None

    @property
    def evaluates_twice(self) -> bool:
        """Whether there are rounds with gradients at two points on one batch."""
        return type(self).reference_point is not Rule.reference_point

    @property
    def halves_batches(self) -> bool:
        """Whether `update` is told `Seen.changes`, wherever there are two gradients."""
        return False

    def reference_point(self, state: S | None, forced: bool) -> F32 | None:
        """Return where a second gradient on the same batch is needed, if anywhere."""
        return None

    def update(self, state: S | None, seen: Seen) -> Outcome[S]:
        """Return what follows from a round.

        Parameters
        ----------
        state : NamedTuple, optional
            The rule's state with the upload that the server holds; None where there is
            none: an upload is forced then.
        seen : Seen
            The round's gradients.
        """
        return Outcome(seen.gradient, state, None)

    # the server's half

    def contacts(
        self,
        key: int,
        state: Any,
        round_: int,
        squared_distance: Callable[[int], float],
        threshold: float,
    ) -> bool | None:
        """Return False to ask the worker, True to demand an upload, None for neither.

        Parameters
        ----------
        key : int
            The worker's.
        state : NamedTuple, optional
            What the server keeps of it for this rule.
        round_ : int
            k − τ, the round of its last upload.
        squared_distance : callable
            Returns ‖θ^k − θ^{k−τ}‖² for that round; inf where θ^{k−τ} is not stored.
        threshold : float
            T^k.
        """
        return False

    def learn(self, state: Any, smoothness_ratio: float | None) -> Any:
        """Return what the server keeps of a worker after an upload of its."""
        return state


class WorkerRule(Rule[S]):
    """A rule that the worker checks in `update`: it saves uploads."""

    decided_by = "worker"

    @abstractmethod
    def update(self, state: S | None, seen: Seen) -> Outcome[S]:
        """Return left-hand side, upload and states, see `Rule.update`."""


class ServerRule(Rule[S]):
    """A rule that the server checks: it saves downloads and gradients as well."""

    decided_by = "server"
    stores_iterates = True

    @abstractmethod
    def lhs(self, key: int, state: Any, squared_distance: float) -> float:
        """Return L² ‖θ^k − θ^{k−τ}‖², the left-hand side of (14) and (16)."""

    def contacts(
        self,
        key: int,
        state: Any,
        round_: int,
        squared_distance: Callable[[int], float],
        threshold: float,
    ) -> bool | None:
        """Demand an upload if LHS > T^k, and leave the worker alone otherwise."""
        lhs = self.lhs(key, state, squared_distance(round_))
        return True if lhs > threshold else None


RULES: Registry[Rule[Any]] = Registry("rule", Rule)
"""All rules, by name."""


def decide(lhs: float, threshold: float, forced: bool) -> Decision:
    """Compare the two sides: upload iff LHS > T^k, or forced.

    Examples
    --------
    >>> decide(1.0, 1.0, forced=False).upload
    False
    >>> decide(0.0, 1.0, forced=True).upload
    True
    """
    return Decision(forced or lhs > threshold, lhs, threshold)
