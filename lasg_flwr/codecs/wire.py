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

Tags, parameters and bodies (all numbers are little-endian; p is the vector's length):

| tag | codec | parameters | body |
|---|---|---|---|
| 1 | dense | none | p float32 |
| 2 | topk | *share* | *indices*(k); k float32 values |
| 3 | qsgd | uint8 b; uint8 n; uint32 B | ⌈p/B⌉ float32 norms; *levels*(p, b) |
| 4 | uniform | uint8 b | float32 radius; *levels*(p, b) |
| 5 | sign | none | float32 scale; *levels*(p, 1) |
| 6 | natural | none | uint32 n; n bytes *levels*(p, 8); *levels*(p, 1) |
| 7 | float16 | none | int16 e; p float16 |
| 8 | randk | *share* | uint64 key; k float32 values |
| 9 | topk-qsgd | qsgd's; *share* | *indices*(k); qsgd's body with p = k |
| 10 | ecsq | none | uint8 0; nothing |
| | | | uint8 1; p float32 |
| | | | uint8 2; *quantizer*; *coded*(p) |
| | | | uint8 3; *quantizer*; uint32 k; *indices*(k); *coded*(k) |

Of qsgd, b is the bits a code, n the norm (0 max, 1 ℓ2), B the bucket (0: B = p).
*Share* is 4 bytes, uint32 k, or 8 bytes, float64 f with k = max(1, round(f·p)); never
more than p are kept. *Levels*(p, b) are one byte 0 (raw), 1 (zstd) or 2 (range), then
the p codes of b bits, packed least significant bit first, in that coding: see
`lasg_flwr.codecs.coding.entropy` and, for 2, `lasg_flwr.codecs.coding.range_coder`.
*Indices*(k) are one byte b, ⌈⌈k/32⌉/2⌉ bytes of Rice parameters, then remainders and
quotients of the gaps: see `lasg_flwr.codecs.coding.indices`. *Quantizer* is the upper
3 bytes (2 where p < 512) of a float32 step, uint8 n, n int8 offsets in step/128.
*Coded*(k) are k levels: see `lasg_flwr.codecs.coding.rans`. What a code means, each
codec's docstring says. Tags from 128 on belong to codecs from outside this package, see
`lasg_flwr.register`.

A receiver knows which codec and which length it asked for; a payload of any other is
refused before anything is allocated for it.
"""

import struct
import zlib
from collections.abc import Iterable
from inspect import isabstract

import numpy as np

from ..errors import WireError
from ..vectors import F32, is_finite, is_within, largest_magnitude
from .base import CODECS, Codec
from .coding.entropy import BytesLike
from .coding.inputs import as_vector
from .coding.large import framed, joined

MAGIC, VERSION = 0x4C, 1
_HEADER = struct.Struct("<BBBBI")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size


def check_tags(codecs: Iterable[type[Codec]]) -> None:
    """Check that every codec of this package can be told from the others.

    Raises
    ------
    ImportError
        If a codec has no tag of its own from 1 to 127, or no decoder.
    """
    found: dict[int, type[Codec]] = {}
    for codec in codecs:
        tag = vars(codec).get("tag")
        if not isinstance(tag, int) or not 1 <= tag <= 127:
            raise ImportError(
                f"codec {codec.name!r} has tag {tag!r}, expected 1 to 127"
            )
        if tag in found:
            raise ImportError(
                f"codecs {found[tag].name!r} and {codec.name!r} share tag {tag}: give "
                "the new one another"
            )
        if isabstract(codec):
            raise ImportError(
                f"tag {tag} has no decoder: {codec.name!r} lacks encode or decode"
            )
        found[tag] = codec


def encode(codec: Codec, x: F32, rng: np.random.Generator | None = None) -> bytes:
    """Encode the finite vector `x` into a payload.

    Parameters
    ----------
    codec : Codec
        How to encode.
    x : ndarray or torch.Tensor, shape (p,), float32
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
    return joined(_parts(codec, x, rng))


def encode_framed(
    codec: Codec, x: F32, rng: np.random.Generator | None = None
) -> BytesLike:
    """Return what `encode` does, ready to be sent: see `framed` of `coding.large`."""
    return framed(_parts(codec, x, rng))


def encode_decoded(
    codec: Codec, x: F32, gain: float, rng: np.random.Generator | None = None
) -> tuple[BytesLike, F32]:
    """Return what `encode_framed` does, and what `decode` makes of it.

    The vector may be a read-only view of `x`.
    """
    x = as_vector(x)
    body, decoded = codec.body_and_decoded(x, rng)
    return framed(_around(codec, x.size, body)), _checked(codec, decoded, gain)


def _parts(
    codec: Codec, x: F32, rng: np.random.Generator | None
) -> tuple[BytesLike, ...]:
    x = as_vector(x)
    return _around(codec, x.size, codec.body(x, rng))


def _around(codec: Codec, size: int, body: BytesLike) -> tuple[BytesLike, ...]:
    parameters = codec.parameters
    head = _HEADER.pack(MAGIC, VERSION, codec.tag, len(parameters), size)
    crc = zlib.crc32(body, zlib.crc32(parameters, zlib.crc32(head)))
    return head, _CRC.pack(crc), parameters, body


def decode(
    payload: BytesLike,
    codec: Codec,
    size: int,
    gain: float = 1.0,
    largest: float | None = None,
) -> F32:
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
    largest : float, optional
        Magnitude of a value at most; left out, any finite one will do.

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
    x = codec.decode(memoryview(payload)[start:], size)
    return _checked(codec, x, gain, largest)


def _checked(codec: Codec, x: F32, gain: float, largest: float | None = None) -> F32:
    """Return what a body was decoded to with its gain, if it can be used."""
    if gain != 1.0:
        x = np.multiply(x, np.float32(gain), out=x if x.flags.writeable else None)
    if largest is not None and is_within(x, largest):
        return x
    if not codec.always_finite and not is_finite(x):
        raise WireError("the decoded vector holds NaN or infinity")
    if largest is not None:
        raise WireError(
            f"a value of magnitude {largest_magnitude(x):.3g}, at most {largest:.3g} "
            "can be added up"
        )
    return x


def _check_header(payload: BytesLike, codec: Codec, size: int) -> int:
    if len(payload) < HEADER_BYTES:
        raise WireError(f"a payload of {len(payload)} bytes is shorter than its header")
    magic, version, tag, n, length = _HEADER.unpack_from(payload)
    if magic != MAGIC or version != VERSION:
        raise WireError(
            f"payload of magic {magic:#x}, version {version}; this release reads magic "
            f"{MAGIC:#x}, version {VERSION}"
        )
    if tag != codec.tag and _name_of(tag) is None:
        raise WireError(f"payload of unknown codec tag {tag}")
    if length != size:
        raise WireError(f"payload of a vector of length {length}, expected {size}")
    start: int = HEADER_BYTES + n
    if tag != codec.tag or payload[HEADER_BYTES:start] != codec.parameters:
        raise WireError(
            f"payload of codec {_name_of(tag)!r} or of other parameters, expected "
            f"{codec!r}"
        )
    crc: int = _CRC.unpack_from(payload, _HEADER.size)[0]
    head = zlib.crc32(payload[: _HEADER.size])
    if crc != zlib.crc32(memoryview(payload)[HEADER_BYTES:], head):
        raise WireError("the checksum of a payload does not match: it was damaged")
    return start


def _name_of(tag: int) -> str | None:
    """Return the name of the codec with this tag, if there is one."""
    return next((c.name for c in CODECS.classes.values() if c.tag == tag), None)
