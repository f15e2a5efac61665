"""What every rule offers: who decides, from what, and what must be kept for it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf, isfinite
from numbers import Integral, Real
from typing import ClassVar, Literal, NamedTuple

from ..vectors import F32


class Decision(NamedTuple):
    """Outcome of a rule: whether to upload, and the two sides compared."""

    upload: bool
    lhs: float
    threshold: float


class Evidence(NamedTuple):
    """What a worker keeps of an upload for its rule; each rule fills what it needs.

    Attributes
    ----------
    theta : ndarray, shape (p,), optional
        θ^{k−τ}, the iterate of the upload (WK2, PSE).
    gradient : ndarray, shape (p,), optional
        ∇ℓ(θ^{k−τ}; ξ^{k−τ}), the raw gradient of the upload (LAG).
    snapshot, delta : ndarray, shape (p,), optional
        θ̃ and δ̃^{k−τ} (WK1); a `delta` of None with a snapshot is 0.
    period : int, optional
        ⌊k / D⌋ of the snapshot (WK1).
    """

    theta: F32 | None = None
    gradient: F32 | None = None
    snapshot: F32 | None = None
    delta: F32 | None = None
    period: int | None = None


@dataclass(frozen=True)
class Rule(ABC):
    """A rule that says who uploads in round k.

    A worker uploads if and only if LHS > T^k (equality skips), or when forced. The
    threshold T^k is that of `lasg_flwr.history.StepHistory`.

    Parameters
    ----------
    c : float, optional (default: None)
        Threshold constant, c ≥ 0. None takes 1/η_0² when the server's step is SGD:
        the papers' practical choice, far above what the theorems allow.
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

    c: float | None = None
    d_max: int = 10
    max_delay: int = 100

    def __post_init__(self) -> None:
        if self.c is not None and not isinstance(self.c, Real):
            raise ValueError(f"c must be a number, got {self.c!r}")
        if self.c is not None and not (isfinite(self.c) and self.c >= 0):
            raise ValueError(f"c must be finite and >= 0, or None, got {self.c!r}")
        for field in ("d_max", "max_delay"):
            value = getattr(self, field)
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{field} must be an integer >= 1, got {value!r}")

    def check(self) -> None:  # noqa: B027
        """Raise ValueError if the server cannot run this rule as it is."""

    def check_key(self, key: int) -> None:  # noqa: B027
        """Raise ValueError if the server cannot run this rule with that worker."""

    def refreshes(self, kept: Evidence | None, round_: int) -> bool:
        """Return whether the rule itself forces an upload in this round."""
        return False

    def second_point(self, kept: Evidence | None, forced: bool) -> F32 | None:
        """Return where a second gradient on the same batch is needed, if anywhere."""
        return None

    def ratio(
        self, gradient: F32, second: F32, theta: F32, kept: Evidence
    ) -> float | None:
        """Return what the worker measures of its smoothness, if the rule needs it."""
        return None

    def evidence(
        self,
        theta: F32,
        round_: int,
        gradient: F32,
        second: F32 | None,
        kept: Evidence | None,
    ) -> Evidence:
        """Return what to keep if the upload of this round is accepted."""
        return Evidence()


class WorkerRule(Rule):
    """A rule that the worker checks: it saves uploads."""

    decided_by = "worker"

    @abstractmethod
    def lhs(self, gradient: F32, second: F32 | None, kept: Evidence) -> float:
        """Return the left-hand side of the rule.

        Parameters
        ----------
        gradient : ndarray, shape (p,)
            ∇ℓ(θ^k; ξ^k).
        second : ndarray, shape (p,), optional
            The gradient at `second_point`, on the same batch ξ^k.
        kept : Evidence
            What was kept of the last accepted upload.

        Returns
        -------
        float
            A squared norm, in units of the gradient's square.
        """


class ServerRule(Rule):
    """A rule that the server checks: it saves downloads and gradients as well."""

    decided_by = "server"

    def smoothness_for(self, key: int, estimate: float | None) -> float | None:
        """Return the constant to use for a worker: by default its estimate."""
        return estimate

    def lhs(self, smoothness: float | None, squared_distance: float) -> float:
        """Return L² ‖θ^k − θ^{k−τ}‖², the left-hand side of (14) and (16).

        Parameters
        ----------
        smoothness : float, optional
            L_m, or its estimate. Without one the worker must be contacted: inf.
        squared_distance : float
            ‖θ^k − θ^{k−τ}‖².
        """
        if smoothness is None:
            return inf
        return smoothness**2 * squared_distance


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
