"""ECSQ: a quantizer with one step and a dead zone, entropy-coded."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..checks import real, whole
from ..errors import WireError
from ..vectors import F32
from .base import Codec
from .coding import quantized
from .coding.bodies import (
    DENSE,
    LEVELS,
    SPARSE,
    ZERO,
    Coded,
    code,
    decode_levels,
    decode_sparse,
)
from .coding.entropy import BytesLike
from .coding.inputs import as_vector
from .coding.magnitudes import EXACT, Magnitudes, Quantizer, forecast, magnitudes
from .coding.quantized import Quantized
from .coding.step_search import for_bits, for_error, offsets_for

_TRIES, _PATIENT = 48, 8
_MARGIN = 1e-9
_USED_UP = 0.97
_CORRECTIONS, _NEAR, _TOO_MANY = 3, 0.02, 1.25


@dataclass(frozen=True)
class ECSQ(Codec):
    """C(x)_i = sign(x_i)·(m_i + o_m)·Δ with m_i = ⌊|x_i|/Δ + r⌋, and 0 for m_i = 0.

    One step Δ for all coordinates (reverse water-filling: what is smaller than about
    Δ/2 becomes 0), offsets o_m that put each level where its coordinates are, and an
    entropy coder that learns the scale of a coordinate from those before it. Δ is the
    largest found with ‖C(x) − x‖² <= error·‖x‖², measured on what will be decoded, so
    α = 1 − error for every vector; where no Δ is good enough, the vector is sent as it
    is. Deterministic and biased. Nearly the fewest bits that a scalar quantizer needs
    for that error (Gish and Pierce, 1968; Sullivan, 1996).

    Body: a byte 0 (all zero), 1 (dense: p float32), 2 (levels) or 3 (sparse), then

    - levels: *quantizer*; *coded*(p);
    - sparse: *quantizer*; uint32 k; *indices*(k) of what is not 0; *coded*(k) of those.

    *Quantizer*: Δ (the upper 3 bytes of a float32, 2 where p < 512), uint8 n, n int8
    offsets in units of 1/128, the last one for all m >= n. *Indices*:
    `lasg_flwr.codecs.coding.indices`. *Coded*: `lasg_flwr.codecs.coding.rans`.

    Parameters
    ----------
    error : float (default: 0.3)
        Largest ‖C(x) − x‖²/‖x‖², in (0, 1).
    bits : float, optional
        In place of `error`: about so many bits a coordinate. Then α is only 1/2p.
    least_bits : float (default: 0)
        Beside `error`: about so many bits a coordinate at least, where no coordinate
        that is not zero needs more than twice as many for it.
    rounds : int, optional
        `least_bits` holds in the first so many rounds of a run, half of it in the next
        as many, and so on; left out, it holds in all.

    Examples
    --------
    >>> x = np.float32([4, 0.1, -2, 0, 4.2])
    >>> codec = ECSQ(error=0.1)
    >>> x2 = codec.decode(codec.encode(x), 5)
    >>> x2[[1, 3]].tolist(), bool(((x - x2) ** 2).sum() <= 0.1 * (x**2).sum())
    ([0.0, 0.0], True)
    """

    name: ClassVar[str] = "ecsq"
    tag: ClassVar[int] = 10
    always_finite: ClassVar[bool] = True

    error: float = 0.3
    bits: float | None = None
    least_bits: float = 0.0
    rounds: int | None = None

    def __post_init__(self) -> None:
        error = real("error", self.error, above=0.0, below=1.0)
        object.__setattr__(self, "error", error)
        least = real("least_bits", self.least_bits, least=0.0, most=24.0)
        object.__setattr__(self, "least_bits", least)
        if self.rounds is not None:
            object.__setattr__(self, "rounds", whole("rounds", self.rounds, least=1))
            if not least:
                raise ValueError(
                    f"rounds={self.rounds!r} is how long least_bits holds: give both"
                )
        if self.bits is None:
            return
        bits = real("bits", self.bits, above=0.0, most=24.0)
        object.__setattr__(self, "bits", bits)
        if self.error != ECSQ.error:
            raise ValueError(
                f"error={self.error!r} and bits={self.bits!r} are both given: give one"
            )
        if least:
            raise ValueError(
                f"bits={self.bits!r} and least_bits={least!r} are both given: "
                "least_bits goes with error"
            )

    def at(self, round_: int) -> "ECSQ":
        """Return this codec with the `least_bits` of a round."""
        if self.rounds is None:
            return self
        halvings = min(round_ // self.rounds, 64)
        return ECSQ(self.error, least_bits=self.least_bits / 2**halvings)

    def alpha(self, size: int) -> float:
        """Return 1 − error, or 1/2p where bits are given."""
        return 1 - self._allowed(size)

    def _allowed(self, size: int) -> float:
        return self.error if self.bits is None else 1 - 0.5 / max(1, size)

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        """Return the quantizer and the coded levels."""
        return self._coded(as_vector(x)).body

    def body_and_decoded(
        self, x: F32, rng: np.random.Generator | None = None
    ) -> tuple[bytes, F32]:
        """Return the body, and what the levels that it codes stand for."""
        coded = self._coded(x)
        decoded = coded.decoded()
        if decoded is None:
            decoded = self.decode(coded.body, x.size)
        return coded.body, decoded

    def _coded(self, x: F32) -> Coded:
        given = magnitudes(x)
        if not np.any(x):
            return Coded(bytes([ZERO]))
        found = self._levels(x, given) if given.energy else None
        if found is not None and found.length <= 4 * x.size:
            return found
        return Coded(bytes([DENSE]) + x.astype("<f4", copy=False).tobytes())

    def _levels(self, x: F32, given: Magnitudes) -> Coded | None:
        """Return coded levels, if some quantizer keeps the error."""
        if self.bits is not None:
            start = for_bits(given, x.size, self.bits).quantizer
            found = self._of_bits(x, given, self.bits, start)
            return found[-1] if found else None
        least = self.least_bits * min(1.0, 2 * np.count_nonzero(x) / x.size)
        wanted, finer = least * x.size / 8, list[Coded]()
        first = for_bits(given, x.size, least) if wanted > 1 else None
        if first is not None and first.lost <= self.error * given.energy:
            # the bits need the smaller step, most likely
            finer = self._of_bits(x, given, least, first.quantizer)
            if finer and abs(finer[-1].length - wanted) < _NEAR * wanted:
                return finer[-1]
        aim = self.error if x.size <= EXACT else 0.997 * self.error
        coarse = self._kept(x, given, for_error(given, x.size, aim))
        if coarse is None or first is None or coarse.length >= wanted:
            return coarse
        finer = finer or self._of_bits(x, given, least, first.quantizer)
        # where values repeat, a finer step may leap over what is wanted
        near = [coarse, *(c for c in finer if c.length <= _TOO_MANY * wanted)]
        return min(near, key=lambda c: abs(c.length - wanted))

    def _of_bits(
        self, x: F32, given: Magnitudes, bits: float, quantizer: Quantizer
    ) -> list[Coded]:
        """Return codings that come nearer and nearer to so many bits a coordinate."""
        found, aim = list[Coded](), bits
        for _ in range(_CORRECTIONS):
            coded = self._kept(x, given, quantizer, used_up=False)
            if coded is None:
                break
            found.append(coded)
            excess = 8 * coded.length / x.size / bits
            if abs(excess - 1) < _NEAR:
                break
            aim /= excess
            quantizer = for_bits(given, x.size, aim).quantizer
        return found

    def _kept(
        self, x: F32, given: Magnitudes, quantizer: Quantizer, used_up: bool = True
    ) -> Coded | None:
        """Return the levels of the coarsest quantizer found that keeps the error."""
        found = self._quantized(x, given, quantizer, used_up)
        return None if found is None else code(*found)

    def _quantized(
        self, x: F32, given: Magnitudes, quantizer: Quantizer, used_up: bool
    ) -> tuple[Quantizer, Quantized] | None:
        """Return the coarsest quantizer found that keeps the error, if any.

        The first one seldom fails, as what it loses was known within a percent: then Δ
        is made smaller until it holds. Where much is left and the error is to be
        `used_up`, one larger Δ is tried.
        """
        top, best = float(given.values[-1]) * 1.01, None
        for turn in range(_TRIES):
            quantizer = quantized.on_the_wire(quantizer, x.size)
            if not quantized.fits(top, quantizer):
                return best
            made = quantized.quantize(x, quantizer)
            allowed = self._allowed(x.size) * (1 - _MARGIN) * made.energy
            if made.lost > allowed and best is not None:
                return best
            if made.lost <= allowed:
                enough = not used_up or made.lost >= _USED_UP * allowed
                if enough or best is not None:
                    return quantizer, made
                best = quantizer, made
            factor = _next_step(made.lost, allowed, turn)
            step, rounding = factor * quantizer.step, quantizer.rounding
            quantizer = forecast(given, step, rounding, offsets_for(x.size)).quantizer
        return None

    def decode(self, body: BytesLike, size: int) -> F32:
        """Return the levels, scaled."""
        data = np.frombuffer(body, np.uint8)
        kind = int(data[0]) if data.size else -1
        if kind == ZERO and data.size == 1:
            return np.zeros(size, np.float32)
        x: F32 = np.empty(size, np.float32)
        if kind == DENSE and data.size == 1 + 4 * size:
            x[:] = np.frombuffer(body, "<f4", size, 1)
            if not np.all(np.isfinite(x)):
                raise WireError("a dense ECSQ body with values that are not finite")
            return x
        if kind == LEVELS:
            decode_levels(data[1:], x)
        elif kind == SPARSE:
            decode_sparse(data[1:], x)
        else:
            raise WireError(f"an ECSQ body of kind {kind} with {data.size} bytes")
        return x


def _next_step(lost: float, allowed: float, turn: int) -> float:
    """Return what to multiply Δ by: what is lost grows about as Δ²."""
    if lost <= allowed:
        return float(min((allowed / max(lost, 1e-300)) ** 0.5, 1.1))
    if turn >= _PATIENT:
        return 0.5
    return float(min(max((allowed / lost) ** 0.5, 0.5), 0.997))
