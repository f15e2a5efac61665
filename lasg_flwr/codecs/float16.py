"""Float16: half precision under a common power of two."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import WireError
from ..vectors import F32
from .base import Codec
from .coding import levels
from .coding.entropy import BytesLike
from .coding.inputs import as_vector

_TOP = 14


@dataclass(frozen=True)
class Float16(Codec):
    """C(x)_i = 2^−e · half(2^e·x_i), with e such that 2^14 <= 2^e·‖x‖∞ < 2^15.

    The common exponent keeps large vectors finite and small ones precise. A half is off
    by at most 1/2049 of its value, or by 2^−25 if it is subnormal, so
    α = 1 − 2049^{−2} − p·2^{−78}, all but reached by x_i = 1 + 2^{−11}. Biased.

    Body: e as little-endian int16, then p little-endian float16.

    Examples
    --------
    >>> Float16().decode(Float16().encode(np.float32([1e38, -3e37])), 2).tolist()
    [1.0002440668281492e+38, -2.9990706654897164e+37]
    """

    name: ClassVar[str] = "float16"
    tag: ClassVar[int] = 7
    always_finite: ClassVar[bool] = True

    def alpha(self, size: int) -> float:
        """Return 1 − 2049^{−2} − p·2^{−78}."""
        return 1 - 2049.0**-2 - size * 2.0**-78

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        """Return the exponent and the halves."""
        x = as_vector(x)
        top = levels.bucket_norms(x, max(1, x.size), "max")
        exponent = _TOP + 1 - int(np.frexp(top[0])[1]) if x.size and top[0] else 0
        halves = np.ldexp(x.astype(np.float64), exponent).astype("<f2")
        return exponent.to_bytes(2, "little", signed=True) + halves.tobytes()

    def decode(self, body: BytesLike, size: int) -> F32:
        """Return the halves, scaled back."""
        if len(body) != 2 + 2 * size:
            raise WireError(
                f"a float16 body of {len(body)} bytes does not hold {size} halves"
            )
        exponent = int.from_bytes(body[:2], "little", signed=True)
        halves = np.frombuffer(body, "<f2", size, 2)
        if abs(exponent) > 256 or not np.all(np.isfinite(halves)):
            raise WireError(
                f"a float16 body with exponent {exponent} or halves that are not finite"
            )
        wide = np.ldexp(halves.astype(np.float64), -exponent)
        limit = levels.MAX_FLOAT
        return np.clip(wide, -limit, limit, out=wide).astype(np.float32)
