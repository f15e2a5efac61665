"""LASG-PS: the server contacts a worker when θ has moved far enough."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

from ..checks import real
from .base import ServerRule

Smoothness = float | Sequence[float] | Mapping[int, float]


@dataclass(frozen=True)
class PS(ServerRule[Any]):
    """Contact worker m iff L_m² ‖θ^k − θ^{k−τ}‖² > T^k: (14), Algorithm 3.

    The server keeps θ^{k−τ}; nothing is sent to the others, and they compute nothing.

    Parameters
    ----------
    smoothness : float, sequence or mapping of float, optional
        L_m: one for all, by worker key as position, or by worker key. See
        `lasg_flwr.rules.smoothness` for linear models. The server cannot do without.

    Examples
    --------
    >>> PS(smoothness=0.5).lhs(0, None, squared_distance=8.0)
    2.0
    >>> PS(smoothness={7: 1.5}).smoothness_of(7)
    1.5
    """

    name: ClassVar[str] = "ps"
    server_only: ClassVar[tuple[str, ...]] = ("c", "smoothness")

    smoothness: Smoothness | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "smoothness", _checked(self.smoothness))

    def check(self) -> None:
        """Raise ValueError if there is no smoothness constant at all."""
        if self.smoothness is None:
            self.smoothness_of(0)

    def check_key(self, key: int) -> None:
        """Raise ValueError if the worker has no constant."""
        self.smoothness_of(key)

    def lhs(self, key: int, state: Any, squared_distance: float) -> float:
        """Return L_m² ‖θ^k − θ^{k−τ}‖²."""
        constant = self.smoothness_of(key)
        return constant * constant * squared_distance  # inf where it overflows

    def smoothness_of(self, key: int) -> float:
        """Return L_m of the worker with this key.

        Raises
        ------
        ValueError
            If none was given for it.
        """
        given = self.smoothness
        if isinstance(given, Real):
            return float(given)
        try:
            if given is not None:
                return float(given[key])  # type: ignore[index]
        except (KeyError, IndexError):
            pass
        raise ValueError(
            f"PS has no smoothness constant for worker {key}: pass smoothness=..., "
            "one for all or one by worker key, or use PSE, which estimates it"
        )


def _checked(given: Any) -> Any:
    if given is None:
        return None
    if isinstance(given, Mapping):
        pairs = given.items()
        return {key: real("smoothness", value, above=0.0) for key, value in pairs}
    if isinstance(given, Real | str) or not isinstance(given, Iterable):
        return real("smoothness", given, above=0.0)
    return tuple(real("smoothness", value, above=0.0) for value in given)
