"""Versioned bytes <-> payload: the header of every upload, checked before use.

| offset | bytes | content |
|---|---|---|
| 0 | 1 | magic 0x4C |
| 1 | 1 | version, 1 |
| 2 | 1 | tag of the codec |
| 3 | 1 | length n of the codec's parameters |
| 4 | 4 | length p of the vector, little-endian |
| 8 | 4 | CRC-32 of all other bytes, little-endian |
| 12 | n | parameters of the codec |
| 12 + n | rest | body, see the codec |

A receiver knows which codec and which length it asked for; a payload of any other is
refused before anything is allocated for it.
"""

import struct
import zlib

import numpy as np

from .codecs import CODECS, Codec
from .errors import WireError
from .vectors import F32, is_finite

MAGIC, VERSION = 0x4C, 1
_HEADER = struct.Struct("<BBBBI")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size

_BY_TAG = {codec.tag: codec for codec in CODECS.values()}
if len(_BY_TAG) != len(CODECS):
    raise ImportError(
        f"two codecs share a tag: {sorted(c.tag for c in CODECS.values())}"
    )


def encode(codec: Codec, x: F32, rng: np.random.Generator | None = None) -> bytes:
    """Encode the finite vector `x` into a payload.

    Parameters
    ----------
    codec : Codec
        How to encode.
    x : ndarray, shape (p,), float32
        The vector.
    rng : numpy.random.Generator, optional
        What a stochastic codec draws from.

    Examples
    --------
    >>> from lasg_flwr.codecs import Dense
    >>> x = np.float32([1, 2, 3])
    >>> payload = encode(Dense(), x)
    >>> len(payload), decode(payload, Dense(), 3).tolist()
    (24, [1.0, 2.0, 3.0])
    """
    parameters = codec.parameters
    head = _HEADER.pack(MAGIC, VERSION, codec.tag, len(parameters), x.size)
    tail = parameters + codec.encode(x, rng)
    return head + _CRC.pack(zlib.crc32(tail, zlib.crc32(head))) + tail


def decode(payload: bytes, codec: Codec, size: int, gain: float = 1.0) -> F32:
    """Decode a payload that must be one of `codec` for length `size`.

    Parameters
    ----------
    payload : bytes
        What a peer sent; nothing about it is trusted.
    codec : Codec
        The codec asked for.
    size : int
        The length p expected.
    gain : float (default: 1.0)
        Factor on the decoded vector, see `Codec.innovation_gain`.

    Returns
    -------
    ndarray, shape (p,), float32
        A finite vector, possibly a read-only view of the payload.

    Raises
    ------
    WireError
        If anything about the payload is off.
    """
    start = _check_header(payload, codec, size)
    x = codec.decode(payload[start:], size)
    if gain != 1.0:
        x = x * np.float32(gain)
    if not is_finite(x):
        raise WireError("the decoded vector holds NaN or infinity")
    return x


def _check_header(payload: bytes, codec: Codec, size: int) -> int:
    if len(payload) < HEADER_BYTES:
        raise WireError(f"a payload of {len(payload)} bytes is shorter than its header")
    magic, version, tag, n, length = _HEADER.unpack_from(payload)
    if magic != MAGIC or version != VERSION:
        raise WireError(
            f"payload of magic {magic:#x}, version {version}; this release reads magic "
            f"{MAGIC:#x}, version {VERSION}"
        )
    if tag not in _BY_TAG:
        raise WireError(f"payload of unknown codec tag {tag}")
    if length != size:
        raise WireError(f"payload of a vector of length {length}, expected {size}")
    start: int = HEADER_BYTES + n
    if tag != codec.tag or payload[HEADER_BYTES:start] != codec.parameters:
        raise WireError(
            f"payload of codec {_BY_TAG[tag].name!r} or of other parameters, expected "
            f"{codec!r}"
        )
    crc: int = _CRC.unpack_from(payload, _HEADER.size)[0]
    head = zlib.crc32(payload[: _HEADER.size])
    if crc != zlib.crc32(memoryview(payload)[HEADER_BYTES:], head):
        raise WireError("the checksum of a payload does not match: it was damaged")
    return start
