"""Innovation memory (LAQ, EF21, CLAG): an upload is the difference to the last one.

Stable only if decode∘encode contracts, E‖C(x) − x‖² ≤ (1−α)‖x‖² with α > 0; a merely
unbiased codec is damped to Q/(1+ω), which does.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..codecs import Codec
from ..vectors import F32, F64, frozen
from .base import Encoded, Generators, Memory, Slots, Upload, encoded, encoded_decoded
from .exact import add_exactly
from .per_worker import Held, PerWorker, length


class LastGradient(NamedTuple):
    """What the worker keeps: h_m, what the server decodes to, if it is needed later.

    Attributes
    ----------
    h : ndarray, shape (p,), optional
        h_m.
    rest : tuple of ndarray, shape (p,), float64
        What float64 rounds away of it, where the server has only the exact sum.
    """

    h: F32 | F64 | None
    rest: tuple[F64, ...] = ()


class SendsInnovations(Memory):
    """The worker's half: encode(g − h_m), or encode(g) where h_m is not known."""

    name: ClassVar[str] = "innovation"
    worker_state = LastGradient
    precision: ClassVar[type[np.floating[Any]]] = np.float32
    """In which the worker keeps h_m."""

    def held_at_worker(self, state: LastGradient | None) -> F32 | F64 | None:
        """Return h_m, if it is kept."""
        return None if state is None else state.h

    def is_relative(self, slots: Slots[LastGradient]) -> bool:
        """Return whether h_m is known."""
        base = slots.base
        return self.sends_innovations and base is not None and base.h is not None

    def encode(
        self, codec: Codec, g: F32, slots: Slots[LastGradient], rng: Generators
    ) -> Encoded:
        """Encode g − h_m where h_m is known, else g."""
        base = slots.base
        if not self.sends_innovations:
            return Encoded("full", encoded(codec, g, rng), LastGradient(None))
        if base is None or base.h is None:
            return encode_full(codec, g, self.precision, rng)
        return encode_innovation(codec, g, base.h, base.rest, rng)


@dataclass(frozen=True)
class Innovation(SendsInnovations, PerWorker):
    """Send encode(g − h_m); both sides add what it decodes to, and hold one h_m."""

    @property
    def sends_innovations(self) -> bool:
        """False under a lossless codec: g itself is as short."""
        return not self.lossless

    def keep(self, h: F32, upload: Upload) -> Held:
        """Hold h_m."""
        return Held(True, h, length=length(h))


def encode_innovation(
    codec: Codec, g: F32, h: F32 | F64, rest: tuple[F64, ...], rng: Generators
) -> Encoded:
    """Encode g − h; a merely unbiased codec is damped."""
    x = np.asarray(g - h, np.float32)
    gain = codec.innovation_gain(x.size)
    payload, decoded = encoded_decoded(codec, x, gain, rng)
    return Encoded("innovation", payload, _moved(h, rest, decoded))


def _moved(h: F32 | F64, rest: tuple[F64, ...], decoded: F32) -> LastGradient:
    """Return h + decoded: as the server rounds it, or as it keeps it, exactly."""
    if h.dtype != np.float64:
        return LastGradient(frozen(h + decoded))
    parts: list[F64] = [np.array(part) for part in (h, *rest)]
    add_exactly(parts, decoded)
    first, *others = (frozen(part) for part in parts)
    return LastGradient(first, tuple(others))


def encode_full(
    codec: Codec, g: F32, precision: type[np.floating[Any]], rng: Generators
) -> Encoded:
    """Encode g, and keep what it decodes to."""
    payload, decoded = encoded_decoded(codec, g, 1.0, rng)
    return Encoded("full", payload, LastGradient(frozen(decoded.astype(precision))))
