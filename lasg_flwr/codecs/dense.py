"""Dense: the vector as it is."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import WireError
from ..vectors import F32
from .base import Codec
from .coding.entropy import BytesLike
from .coding.inputs import as_vector


@dataclass(frozen=True)
class Dense(Codec):
    """Little-endian float32, lossless: 4 bytes a coordinate.

    Examples
    --------
    >>> x = np.float32([1, -2])
    >>> body = Dense().encode(x)
    >>> len(body), Dense().decode(body, 2).tolist()
    (8, [1.0, -2.0])
    """

    name: ClassVar[str] = "dense"
    tag: ClassVar[int] = 1

    @property
    def lossless(self) -> bool:
        """True."""
        return True

    def alpha(self, size: int) -> float:
        """Return 1."""
        return 1.0

    def omega(self, size: int) -> float:
        """Return 0."""
        return 0.0

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        """Return the bytes of `x`."""
        return bytes(self.body(x))

    def body(self, x: F32, rng: np.random.Generator | None = None) -> BytesLike:
        """Return a view of `x`."""
        return as_vector(x).astype("<f4", copy=False).view(np.uint8).data

    def decode(self, body: BytesLike, size: int) -> F32:
        """Return a read-only view of the body."""
        if len(body) != 4 * size:
            raise WireError(
                f"a dense body of {len(body)} bytes does not hold {size} float32"
            )
        return np.frombuffer(body, "<f4")
