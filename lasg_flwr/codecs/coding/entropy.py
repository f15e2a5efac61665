"""Entropy coding of packed codes: raw, zstandard, or a range coder.

A stream is one byte that names the coding, then the data:

| first byte | data |
|---|---|
| 0 raw | the packed codes, ⌈n·width/8⌉ bytes |
| 1 zstd | one zstandard frame of exactly these bytes, its content size stated |
| 2 range | see `lasg_flwr.codecs.coding.range_coder` |

The sender takes the smallest of what it may use, so a stream is never longer than
the packed codes and one byte.
"""

import threading
from typing import Any

import numpy as np
import zstandard

from ...errors import WireError
from . import range_coder
from .kernels import U8
from .levels import pack_codes, packed_bytes, unpack_codes

RAW, ZSTD, RANGE = 0, 1, 2
CHOICES = ("zstd", "range", "raw")
"""Values of the option ``entropy``; ``range`` tries zstandard as well."""

LEVEL = 1
_SHORTEST = 24
_local = threading.local()
BytesLike = bytes | memoryview


def check_choice(entropy: str) -> None:
    """Raise ValueError unless `entropy` is one of `CHOICES`."""
    if entropy not in CHOICES:
        raise ValueError(f"entropy must be one of {CHOICES}, got {entropy!r}")


def write(packed: U8, size: int, width: int, entropy: str) -> bytes:
    """Return the stream of `size` packed codes of `width` bits."""
    best: tuple[int, Any] = (RAW, packed)
    if entropy != "raw" and packed.size >= _SHORTEST:
        frame = _compressor().compress(packed.tobytes())
        if len(frame) < packed.size:
            best = (ZSTD, frame)
    if entropy == "range":
        data = range_coder.encode(unpack_codes(packed, size, width))
        if len(data) < len(best[1]):
            best = (RANGE, data)
    return b"".join((bytes([best[0]]), best[1]))


def read(stream: BytesLike, size: int, width: int) -> U8:
    """Return the packed codes of a stream.

    Raises
    ------
    WireError
        If it is not a stream of `size` codes of `width` bits. What is allocated
        follows from `size`, never from what the stream claims.
    """
    expected = packed_bytes(size, width)
    if len(stream) < 1:
        raise WireError("a level stream of 0 bytes: the payload was cut short")
    data = memoryview(stream)[1:]
    if stream[0] == RAW:
        if len(data) != expected:
            raise WireError(
                f"a raw level stream of {len(data)} bytes does not hold {size} codes "
                f"of {width} bits, which take {expected}"
            )
        return np.frombuffer(data, np.uint8)
    if stream[0] == ZSTD:
        return np.frombuffer(_decompress(data, expected), np.uint8)
    if stream[0] == RANGE:
        return pack_codes(range_coder.decode(data, size, width), width)
    raise WireError(
        f"a level stream of unknown coding {stream[0]}: this release reads 0 (raw), "
        "1 (zstd) and 2 (range); update the receiver"
    )


def _decompress(frame: memoryview, expected: int) -> bytes:
    try:
        stated = zstandard.get_frame_parameters(frame).content_size
        if stated != expected:
            raise WireError(
                f"a zstandard frame of {stated} bytes, expected {expected}: the "
                "payload is of other parameters, or a compression bomb"
            )
        data: bytes = _decompressor().decompress(
            frame, max_output_size=expected, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise WireError(f"a damaged zstandard frame: {error}") from None
    if len(data) != expected:
        raise WireError(
            f"a zstandard frame gave {len(data)} bytes, expected {expected}"
        )
    return data


def _compressor() -> zstandard.ZstdCompressor:
    """Return this thread's compressor: one must not be used from two threads."""
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(LEVEL, write_content_size=True)
    compressor: zstandard.ZstdCompressor = _local.compressor
    return compressor


def _decompressor() -> zstandard.ZstdDecompressor:
    if not hasattr(_local, "decompressor"):
        _local.decompressor = zstandard.ZstdDecompressor()
    decompressor: zstandard.ZstdDecompressor = _local.decompressor
    return decompressor
