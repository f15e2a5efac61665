"""Rand-k: k coordinates drawn at random."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import WireError
from ..vectors import F32
from .base import Codec
from .coding import levels
from .coding.entropy import BytesLike
from .coding.inputs import as_vector
from .coding.noise import draw_key, pick
from .sparsity import Sparsity

_KEY_BYTES = 8


@dataclass(frozen=True)
class RandK(Sparsity, Codec):
    """Q(x)_i = (p/k)·x_i for k coordinates drawn without replacement, 0 elsewhere.

    Unbiased with ω = p/k − 1, reached by every vector. Only the key of the draw is
    sent: both sides take the k coordinates with the smallest hashes of (key, i), see
    `lasg_flwr.codecs.coding.noise`. Products above the largest float32 are cut to it.

    Body: the key, 8 bytes little-endian, then k little-endian float32 values of x.

    Parameters
    ----------
    k, fraction
        See `TopK`.

    Examples
    --------
    >>> codec = RandK(k=1)
    >>> body = codec.encode(np.float32([1, 1, 1]), np.random.default_rng(0))
    >>> sorted(codec.decode(body, 3).tolist())
    [0.0, 0.0, 3.0]
    """

    name: ClassVar[str] = "randk"
    tag: ClassVar[int] = 8
    stochastic: ClassVar[bool] = True
    always_finite: ClassVar[bool] = True

    def omega(self, size: int) -> float:
        """Return p/k − 1."""
        return size / self.kept(size) - 1 if size else 0.0

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        """Return the key and the values."""
        x = as_vector(x)
        key = draw_key(rng)
        values = x[pick(key, x.size, self.kept(x.size))]
        levels.check_finite(values)
        return key.to_bytes(_KEY_BYTES, "little") + values.astype("<f4").tobytes()

    def decode(self, body: BytesLike, size: int) -> F32:
        """Return the vector with the drawn coordinates, zero elsewhere."""
        k = self.kept(size)
        if len(body) != _KEY_BYTES + 4 * k:
            raise WireError(
                f"a rand-k body of {len(body)} bytes does not hold {k} coordinates"
            )
        sent = np.frombuffer(body, "<f4", k, _KEY_BYTES)
        if not np.all(np.isfinite(sent)):
            raise WireError("a value of a rand-k body is not finite")
        values = sent.astype(np.float64) * (size / max(1, k))
        limit = levels.MAX_FLOAT
        x = np.zeros(size, np.float32)
        key = int.from_bytes(body[:_KEY_BYTES], "little")
        x[pick(key, size, k)] = np.clip(values, -limit, limit)
        return x
