"""Top-k with quantized values."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..vectors import F32
from .base import Codec
from .coding import indices as index_set
from .coding.entropy import BytesLike
from .coding.inputs import as_vector
from .qsgd import QSGD
from .sparsity import Sparsity
from .topk import check_empty, largest


@dataclass(frozen=True)
class TopKQSGD(Sparsity, Codec):
    """QSGD of the k coordinates of largest magnitude, damped: C = Q(Top_k)/(1 + ω).

    ω is QSGD's for k coordinates. E‖Q(y)/(1 + ω) − y‖² <= ω/(1 + ω)·‖y‖² for y =
    Top_k(x), whose distance to x is orthogonal to it, so E‖C(x) − x‖² <= (1 − α)‖x‖²
    with α = (k/p)/(1 + ω). The decoder divides by 1 + ω. Biased.

    Body: the set of indices, see `lasg_flwr.codecs.coding.indices`, then QSGD's
    body of the k values.

    Parameters
    ----------
    k, fraction
        See `TopK`.
    bits, bucket, norm, entropy
        See `QSGD`.

    Examples
    --------
    >>> codec = TopKQSGD(k=1)
    >>> body = codec.encode(np.float32([1, -3, 2]), np.random.default_rng(0))
    >>> codec.decode(body, 3).tolist()
    [0.0, -3.0, 0.0]
    """

    name: ClassVar[str] = "topk-qsgd"
    tag: ClassVar[int] = 9
    stochastic: ClassVar[bool] = True
    always_finite: ClassVar[bool] = True

    bits: int = 4
    bucket: int = 512
    norm: str = "max"
    entropy: str = "zstd"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.quantizer

    @property
    def quantizer(self) -> QSGD:
        """The codec of the kept values."""
        return QSGD(self.bits, self.bucket, self.norm, self.entropy)

    @property
    def parameters(self) -> bytes:
        """QSGD's parameters, then k or the fraction."""
        return self.quantizer.parameters + super().parameters

    def alpha(self, size: int) -> float:
        """Return (k/p)/(1 + ω)."""
        if not size:
            return 1.0
        k = self.kept(size)
        return k / size / (1 + self.quantizer.omega(k))

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        """Return indices and quantized values of the largest coordinates."""
        x = as_vector(x)
        if not x.size:
            return b""
        chosen, values = largest(x, self.kept(x.size))
        return index_set.encode(chosen) + self.quantizer.encode(values, rng)

    def decode(self, body: BytesLike, size: int) -> F32:
        """Return the vector with the kept coordinates, zero elsewhere."""
        x = np.zeros(size, np.float32)
        if not size:
            return check_empty(body, x)
        k, quantizer = self.kept(size), self.quantizer
        chosen, used = index_set.decode(body, k, size)
        values = quantizer.decode(memoryview(body)[used:], k)
        x[chosen] = values * np.float32(1 / (1 + quantizer.omega(k)))
        return x
