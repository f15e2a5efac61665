"""Sets of indices as Golomb-Rice gaps, with a parameter for every 32 of them.

With gaps g_j = i_j − i_{j−1} − 1 (i_{−1} = −1) of k increasing indices below p, gap j
in block ⌊j/32⌋ with parameter r = b + r_block:

| offset | bytes | content |
|---|---|---|
| 0 | 1 | b, the smallest parameter |
| 1 | ⌈⌈k/32⌉/2⌉ | r_block, 4 bits each |
| … | ⌈Σ r/8⌉ | g_j mod 2^r, r bits each |
| … | to the k-th 1 | ⌊g_j / 2^r⌋ in unary, as so many 0 bits and a 1 |

Golomb (1966), Rice (1979). Large coordinates of gradients come in clusters: with a
parameter for each block a set takes less than log2 C(p, k), with one for all more.
"""

import numpy as np
from numpy.typing import NDArray

from ...errors import WireError
from .entropy import BytesLike
from .levels import pack_codes, packed_bytes, unpack_codes

BLOCK = 32
_SPAN = 15
I64 = NDArray[np.int64]


def encode(indices: I64) -> bytes:
    """Encode k >= 1 increasing indices."""
    gaps = np.diff(indices, prepend=-1) - 1
    base, steps = _parameters(gaps)
    r = _spread(base, steps, gaps.size)
    ends = np.cumsum((gaps >> r) + 1)
    bits = np.zeros(int(ends[-1]), np.uint8)
    bits[ends - 1] = 1
    head = bytes([base]) + pack_codes(steps, 4).tobytes()
    return head + _pack_low(gaps, r) + np.packbits(bits, bitorder="little").tobytes()


def decode(data: BytesLike, k: int, size: int) -> tuple[I64, int]:
    """Decode k >= 1 indices below `size`; return them and the bytes that they took.

    Raises
    ------
    WireError
        If `data` does not begin with such a set.
    """
    body = np.frombuffer(data, np.uint8)
    blocks = -(-k // BLOCK)
    first = 1 + packed_bytes(blocks, 4)
    if body.size < first:
        raise WireError(f"a set of {k} indices in {body.size} bytes was cut short")
    steps = unpack_codes(body[1:first], blocks, 4)
    r = _spread(int(body[0]), steps, k)
    middle = first + packed_bytes(int(r.sum()), 1)
    if int(r.max()) > size.bit_length() or body.size < middle:
        raise WireError(
            f"a set of {k} of {size} indices with Rice parameters up to {r.max()} does "
            f"not fit {body.size} bytes"
        )
    unary = body[middle : middle + packed_bytes(size + k, 1)]
    ends = np.flatnonzero(np.unpackbits(unary, bitorder="little"))[:k]
    if ends.size < k:
        raise WireError(f"a set of {ends.size} indices, expected {k}")
    gaps = np.diff(ends, prepend=-1) - 1
    if np.any(gaps > size >> r):
        raise WireError(f"an index is not below the length {size}")
    gaps = (gaps << r) | _unpack_low(body[first:middle], r)
    indices: I64 = np.cumsum(gaps + 1) - 1
    if indices[-1] >= size:
        raise WireError(f"an index {indices[-1]} is not below the length {size}")
    return indices, middle + int(ends[-1]) // 8 + 1


def _parameters(gaps: I64) -> tuple[int, NDArray[np.uint16]]:
    """Return b and each block's r − b, for the fewest bits Σ (r + 1 + ⌊g/2^r⌋)."""
    starts = np.arange(0, gaps.size, BLOCK)
    best = np.zeros(starts.size, np.int64)
    least = np.add.reduceat(gaps, starts)
    counts = np.diff(starts, append=gaps.size)
    for r in range(1, int(gaps.max()).bit_length()):
        cost = np.add.reduceat(gaps >> r, starts) + r * counts
        best[cost < least] = r
        least = np.minimum(cost, least)
    base = int(best.min())
    return base, np.minimum(best - base, _SPAN).astype(np.uint16)


def _spread(base: int, steps: NDArray[np.uint16], k: int) -> I64:
    """Return the parameter of each of k gaps."""
    return np.repeat(base + steps.astype(np.int64), BLOCK)[:k]


def _pack_low(gaps: I64, r: I64) -> bytes:
    """Pack the lower r_j bits of each gap."""
    which = np.repeat(np.arange(r.size), r)
    place = np.arange(which.size) - (np.cumsum(r) - r)[which]
    bits = (gaps[which] >> place) & 1
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def _unpack_low(packed: NDArray[np.uint8], r: I64) -> I64:
    """Undo `_pack_low`: read a 64-bit window from the byte where a number begins."""
    padded = np.zeros(packed.size + 8, np.uint8)
    padded[: packed.size] = packed
    windows: I64 = np.ndarray((packed.size + 1,), "<i8", padded, strides=(1,))
    first = np.cumsum(r) - r
    low: I64 = (windows[first >> 3] >> (first & 7)) & ((np.int64(1) << r) - 1)
    return low
