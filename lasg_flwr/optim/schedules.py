"""Step sizes η_k, and what the theorems allow."""

from dataclasses import dataclass
from math import cos, pi, sqrt

from ..checks import real, whole


@dataclass(frozen=True)
class Constant:
    """η_k = η.

    Examples
    --------
    >>> Constant(0.1)(1000)
    0.1
    """

    value: float

    def __post_init__(self) -> None:
        value = real("a step size", self.value, above=0.0)
        object.__setattr__(self, "value", value)

    def __call__(self, k: int) -> float:
        """Return η_k."""
        return self.value


@dataclass(frozen=True)
class Decreasing:
    """η_k = 2 / (μ (k + K_0)), the steps of Theorem 3.

    Examples
    --------
    >>> Decreasing(mu=0.5, k0=4.0)(0)
    1.0
    """

    mu: float
    k0: float

    def __post_init__(self) -> None:
        for name in ("mu", "k0"):
            object.__setattr__(self, name, real(name, getattr(self, name), above=0.0))

    def __call__(self, k: int) -> float:
        """Return η_k."""
        return 2.0 / (self.mu * (k + self.k0))


@dataclass(frozen=True)
class Cosine:
    """η_k = η (1 + cos(πk/K))/2: from η at k = 0 to 0 at k = K, and 0 from there on.

    Parameters
    ----------
    value : float
        η.
    rounds : int
        K ≥ 1.

    Raises
    ------
    ValueError
        If η or K is out of range.

    Examples
    --------
    >>> steps = Cosine(0.4, rounds=100)
    >>> steps(0), round(steps(50), 12), steps(100), steps(200)
    (0.4, 0.2, 0.0, 0.0)
    """

    value: float
    rounds: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", Constant(self.value).value)
        object.__setattr__(self, "rounds", whole("rounds", self.rounds, least=1))

    def __call__(self, k: int) -> float:
        """Return η_k."""
        return self.value * (1 + cos(pi * min(k / self.rounds, 1.0))) / 2


@dataclass(frozen=True)
class Exponential:
    """η_k = η γ^k.

    Parameters
    ----------
    value : float
        η.
    factor : float
        γ in (0, 1].

    Raises
    ------
    ValueError
        If η or γ is out of range.

    Examples
    --------
    >>> Exponential(0.1, factor=0.5)(2)
    0.025
    """

    value: float
    factor: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", Constant(self.value).value)
        factor = real("factor", self.factor, above=0, most=1)
        object.__setattr__(self, "factor", factor)

    def __call__(self, k: int) -> float:
        """Return η_k."""
        return self.value * self.factor**k


Schedule = Constant | Decreasing | Cosine | Exponential


def schedule_from(choice: float | Schedule, name: str = "learning_rate") -> Schedule:
    """Return a schedule; a number is a constant one.

    Raises
    ------
    ValueError
        If it is neither, or not finite and > 0.
    """
    if isinstance(choice, Schedule):
        return choice
    return Constant(real(name, choice, above=0.0))


def square_root_step(
    c_eta: float, rounds: int, smoothness: float, workers: int, max_delay: int
) -> Constant:
    """Return the step of Theorem 1: min{1/(2L + (4/3)√M·D·L), c_η/√K}.

    Parameters
    ----------
    c_eta : float
        c_η.
    rounds : int
        K, the number of rounds.
    smoothness : float
        L of the loss.
    workers, max_delay : int
        M and D.

    Examples
    --------
    >>> square_root_step(1.0, 100, smoothness=0.01, workers=1, max_delay=1)
    Constant(value=0.1)
    """
    largest = 1 / (2 * smoothness + 4 / 3 * sqrt(workers) * max_delay * smoothness)
    return Constant(min(largest, c_eta / sqrt(rounds)))


def decreasing_step(
    mu: float, smoothness: float, workers: int, max_delay: int
) -> Decreasing:
    """Return the steps of Theorem 3, K_0 = max{2(L + (2/3)√M·D·L)/μ, 16D}.

    Parameters
    ----------
    mu : float
        Constant of the Polyak-Łojasiewicz condition.
    smoothness : float
        L of the loss.
    workers, max_delay : int
        M and D.

    Examples
    --------
    >>> decreasing_step(1.0, 1.0, workers=4, max_delay=10).k0
    160.0
    """
    root = 2 * (smoothness + 2 / 3 * sqrt(workers) * max_delay * smoothness) / mu
    return Decreasing(mu, max(root, 16.0 * max_delay))


_THEOREMS = {1: (12, 18), 2: (16, 24), 3: (24, 18)}


def largest_c(
    theorem: int,
    step: float,
    smoothness: float,
    workers: int,
    max_delay: int,
    d_max: int,
) -> float:
    """Return the largest c of Theorem 1, 2 (quantized) or 3, as their proofs have it.

    In units of 1/η², as rules take it: c ≤ min{d_max/(a·D), d_max·√M·L²η²/b}, with
    (a, b) = (12, 18), (16, 24) and (24, 18). The statement of Theorem 1 prints it
    without d_max, its proof has it.

    Parameters
    ----------
    theorem : {1, 2, 3}
        Which.
    step : float
        η, or η_0 for Theorem 3.
    smoothness : float
        L of the loss.
    workers, max_delay, d_max : int
        M, D and d_max.

    Raises
    ------
    ValueError
        For another theorem.

    Examples
    --------
    >>> largest_c(1, 0.25, smoothness=10.0, workers=1, max_delay=4, d_max=12)
    0.25
    """
    if theorem not in _THEOREMS:
        raise ValueError(f"theorem must be 1, 2 or 3, got {theorem!r}")
    a, b = _THEOREMS[theorem]
    steepness = (step * smoothness) ** 2
    return min(d_max / (a * max_delay), d_max * sqrt(workers) * steepness / b)
