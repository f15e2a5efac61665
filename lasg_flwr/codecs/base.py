"""What every codec offers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from ..registry import Registry
from ..vectors import F32
from .coding.entropy import BytesLike


@dataclass(frozen=True)
class Codec(ABC):
    """A map from vectors to bytes and back; decoding is deterministic to the bit.

    A codec declares its constant, which the contract suite measures:

    - *contractive*: E‖C(x) − x‖² ≤ (1 − α)‖x‖² with α = `alpha` > 0;
    - *unbiased*: E[Q(x)] = x and E‖Q(x) − x‖² ≤ ω‖x‖² with ω = `omega`.

    A lossless codec has α = 1 and ω = 0.
    """

    name: ClassVar[str]
    tag: ClassVar[int]
    """One byte that names the codec on the wire."""

    stochastic: ClassVar[bool] = False
    """Whether encoding draws random numbers."""

    always_finite: ClassVar[bool] = False
    """Whether decoding checks by itself that it yields neither NaN nor infinity."""

    @property
    def parameters(self) -> bytes:
        """Parameters that stand in the payload's header, at most 255 bytes."""
        return b""

    @property
    def most_kept(self) -> int | None:
        """The number of coordinates kept, where it does not depend on their number."""
        return None

    @property
    def lossless(self) -> bool:
        """Whether decode(encode(x)) equals x to the bit."""
        return False

    def at(self, round_: int) -> "Codec":
        """Return the codec that encodes in this round; it decodes what this one does.

        It may send more in the first rounds of a run, say.
        """
        return self

    def alpha(self, size: int) -> float | None:
        """Return the contraction constant for vectors of `size`, if there is one."""
        return None

    def omega(self, size: int) -> float | None:
        """Return the variance constant for vectors of `size`, if unbiased."""
        return None

    @classmethod
    def check_registration(cls, known: Mapping[str, "type[Codec]"]) -> None:
        """Raise ValueError if a codec from outside this package has no tag of its own.

        Tags 1 to 127 are this package's, 128 to 255 everybody else's.
        """
        tag = vars(cls).get("tag")
        if not isinstance(tag, int) or not 128 <= tag <= 255:
            raise ValueError(
                f"codec {cls.name!r} has tag {tag!r}: give it a `tag: ClassVar[int]` "
                "from 128 to 255"
            )
        for other in known.values():
            if other.tag == tag and other is not cls:
                raise ValueError(
                    f"codecs {other.name!r} and {cls.name!r} share tag {tag}: choose "
                    "another tag"
                )

    @abstractmethod
    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        """Encode the finite vector `x`; a stochastic codec draws from `rng`.

        `x` may be a torch tensor. The bytes depend on `x` and on one draw of 64 bits
        from `rng` alone, not on threads or on what computes them.

        Raises
        ------
        ValueError
            If there is no `rng` to draw from, or NaN or infinity is met.
        """

    def body(self, x: F32, rng: np.random.Generator | None = None) -> BytesLike:
        """Return what `encode` does, or a view that saves a copy."""
        return self.encode(x, rng)

    def body_and_decoded(
        self, x: F32, rng: np.random.Generator | None = None
    ) -> tuple[BytesLike, F32]:
        """Return `body`, and what `decode` makes of it, which a codec may know.

        `x` is an array. What is returned may be a read-only view of it.
        """
        body = self.body(x, rng)
        return body, self.decode(memoryview(body).toreadonly(), x.size)

    @abstractmethod
    def decode(self, body: BytesLike, size: int) -> F32:
        """Decode a body into a vector of length `size`.

        Raises
        ------
        WireError
            If the body is not one of this codec for this size. Whatever the body
            claims, decoding n bytes allocates less than 64·`size` + 16·n + 32 KiB.
        """

    def innovation_gain(self, size: int) -> float:
        """Return the factor on decoded innovations: 1, or 1/(1+ω) if only unbiased.

        Innovation memory is stable only under a contraction; Q/(1+ω) is one.

        Raises
        ------
        ValueError
            If the codec is neither contractive nor unbiased.
        """
        if self.lossless or self.alpha(size):
            return 1.0
        omega = self.omega(size)
        if omega is None:
            raise ValueError(f"codec {self.name!r} declares neither alpha nor omega")
        return 1.0 / (1.0 + omega)


CODECS: Registry[Codec] = Registry("codec", Codec)  # type: ignore[type-abstract]
"""All codecs, by name."""


def codec_from(spec: "str | Codec") -> Codec:
    """Return the codec of a string form such as ``"dense"`` or ``"topk:k=10"``.

    Examples
    --------
    >>> codec_from("topk:fraction=0.1")
    TopK(k=None, fraction=0.1)
    >>> round(codec_from("qsgd:bits=4,bucket=256").omega(10_000), 3)
    0.745
    >>> codec_from("zip")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
      ...
    ValueError: unknown codec 'zip': choose one of dense, ecsq, float16, natural, ...
    """
    return _parsed(spec) if isinstance(spec, str) else CODECS.parse(spec)


@lru_cache(maxsize=64)
def _parsed(spec: str) -> Codec:
    return CODECS.parse(spec)
