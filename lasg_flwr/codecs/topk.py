"""Top-k: the k coordinates of largest magnitude."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import WireError
from ..vectors import F32
from .base import Codec
from .coding import indices as index_set
from .coding import levels
from .coding.backend import kernels_for
from .coding.entropy import BytesLike
from .coding.inputs import as_vector
from .sparsity import Sparsity


@dataclass(frozen=True)
class TopK(Sparsity, Codec):
    """Keep the k coordinates of largest magnitude, exactly.

    Contractive with α = k/p: ‖C(x) − x‖² ≤ (1 − k/p)‖x‖², with equality where all
    magnitudes are equal. Biased, so not for gradient memory. Ties go to the lower
    index.

    Body: the set of indices, see `lasg_flwr.codecs.coding.indices`, then k
    little-endian float32 values.

    Parameters
    ----------
    k : int, optional
        Coordinates kept (all, if the vector is shorter).
    fraction : float, optional (default: 0.01)
        Sparsity of the coordinates kept, at least one; not with `k`.

    Examples
    --------
    >>> codec = TopK(k=1)
    >>> codec.decode(codec.encode(np.float32([1, -3, 2])), 3).tolist()
    [0.0, -3.0, 0.0]
    """

    name: ClassVar[str] = "topk"
    tag: ClassVar[int] = 2

    def alpha(self, size: int) -> float:
        """Return k/p."""
        return self.kept(size) / size if size else 1.0

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        """Return indices and values of the largest coordinates."""
        x = as_vector(x)
        if not x.size:
            return b""
        chosen, values = largest(x, self.kept(x.size))
        coded = index_set.encode(chosen)
        return coded + values.astype("<f4", copy=False).tobytes()

    def decode(self, body: BytesLike, size: int) -> F32:
        """Return the vector with the kept coordinates, zero elsewhere."""
        x = np.zeros(size, np.float32)
        if not size:
            return check_empty(body, x)
        k = self.kept(size)
        chosen, used = index_set.decode(body, k, size)
        if len(body) != used + 4 * k:
            raise WireError(
                f"a top-k body has {len(body) - used} bytes for the values of {k} "
                f"coordinates, expected {4 * k}"
            )
        x[chosen] = np.frombuffer(body, "<f4", k, used)
        return x


def largest(x: F32, k: int) -> tuple[NDArray[np.int64], F32]:
    """Return indices, increasing, and values of the k >= 1 largest magnitudes."""
    chosen = kernels_for(x.size).select(x, k)
    values = x[chosen]
    levels.check_finite(values)  # NaN and infinity are the largest
    return chosen, values


def check_empty(body: BytesLike, x: F32) -> F32:
    """Return the empty vector `x`; the body must be empty too."""
    if len(body):
        raise WireError(f"a body of {len(body)} bytes for an empty vector")
    return x
