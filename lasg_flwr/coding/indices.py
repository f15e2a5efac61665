"""Sets of indices as Golomb-Rice gaps.

With gaps g_j = i_j − i_{j−1} − 1 (i_{−1} = −1) of k increasing indices below p:

| offset | bytes | content |
|---|---|---|
| 0 | 1 | r, the Rice parameter |
| 1 | 4 | n, little-endian |
| 5 | ⌈kr/8⌉ | g_j mod 2^r, r bits each |
| … | n | ⌊g_j / 2^r⌋ in unary, as so many 0 bits and a 1 |

Golomb (1966), Rice (1979); r is chosen for the shortest result.
"""

import struct

import numpy as np
from numpy.typing import NDArray

from ..errors import WireError
from .entropy import Buffer
from .kernels import pack_wide, unpack_wide
from .levels import packed_bytes

_HEAD = struct.Struct("<BI")


def encode(indices: NDArray[np.int64], size: int) -> bytes:
    """Encode k >= 1 increasing indices below `size`."""
    gaps = np.diff(indices, prepend=-1) - 1
    r = _parameter(gaps, size)
    low = pack_wide((gaps & ((1 << r) - 1)).astype(np.uint32), r) if r else b""
    ends = np.cumsum((gaps >> r) + 1)
    bits = np.zeros(int(ends[-1]), np.uint8)
    bits[ends - 1] = 1
    unary = np.packbits(bits, bitorder="little")
    return _HEAD.pack(r, unary.size) + bytes(low) + unary.tobytes()


def _parameter(gaps: NDArray[np.int64], size: int) -> int:
    """Return the r with the fewest bits, k(r + 1) + Σ ⌊g/2^r⌋."""
    guess = _largest(gaps.size, size)
    choices = range(max(0, guess - 4), guess + 1)
    return min(choices, key=lambda r: gaps.size * r + int((gaps >> r).sum()))


def _largest(k: int, size: int) -> int:
    """Return the largest r that can be of use: 2^r <= 2p/k."""
    return max(0, (2 * size // k).bit_length() - 1)


def decode(data: Buffer, k: int, size: int) -> tuple[NDArray[np.int64], int]:
    """Decode k >= 1 indices below `size`; return them and the bytes that they took.

    Raises
    ------
    WireError
        If `data` does not begin with such a set.
    """
    if len(data) < _HEAD.size:
        raise WireError(f"an index set of {len(data)} bytes was cut short")
    r, count = _HEAD.unpack_from(data)
    start = _HEAD.size + packed_bytes(k, r)
    stop = start + count
    if (
        r > _largest(k, size)
        or count > packed_bytes(k + (size >> r), 1)
        or len(data) < stop
    ):
        raise WireError(
            f"an index set with Rice parameter {r} and {count} bytes of quotients does "
            f"not hold {k} of {size} indices in {len(data)} bytes"
        )
    body = np.frombuffer(data, np.uint8, stop - _HEAD.size, _HEAD.size)
    bits = np.unpackbits(body[start - _HEAD.size :], bitorder="little")
    ends = np.flatnonzero(bits)
    if ends.size != k:
        raise WireError(f"an index set of {ends.size} indices, expected {k}")
    gaps = (np.diff(ends, prepend=-1) - 1) << r
    if r:
        gaps |= unpack_wide(body[: start - _HEAD.size], r, k).astype(np.int64)
    indices = np.cumsum(gaps + 1) - 1
    if indices[-1] >= size:
        raise WireError(f"an index {indices[-1]} is not below the length {size}")
    return indices, stop
