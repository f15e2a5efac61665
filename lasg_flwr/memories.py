"""What an upload is relative to: gradient, innovation and error memory, worker side.

| memory | the upload is | the worker then keeps |
|---|---|---|
| gradient | encode(g) | nothing |
| innovation | encode(g − h), or encode(g) without a base | h + decode, or decode |
| error | encode(e + g) | e + g − decode if it is accepted, e + g if it is lost |

The server decodes the same bytes, so both sides hold the same h to the bit.
"""

from typing import NamedTuple

import numpy as np

from . import wire
from .codecs import Codec
from .messages import Kind
from .settings import Settings
from .vectors import F32, F64, frozen


class Encoded(NamedTuple):
    """An encoded upload, and the vectors to keep for it.

    Attributes
    ----------
    kind : {"innovation", "full"}
        What the payload is.
    payload : bytes
        The bytes to send.
    h : ndarray, shape (p,), optional
        h_m, or under error memory e_m, if the upload is accepted.
    lost : ndarray, shape (p,), optional
        Error memory: e_m if it is not.
    """

    kind: Kind
    payload: bytes
    h: F32 | F64 | None
    lost: F64 | None = None


def encode_innovation(
    codec: Codec, g: F32, h: F32 | F64, rng: np.random.Generator | None
) -> Encoded:
    """Encode g − h; a merely unbiased codec is damped."""
    x = np.asarray(g - h, np.float32)
    payload = wire.encode(codec, x, rng)
    decoded = wire.decode(payload, codec, x.size, codec.innovation_gain(x.size))
    return Encoded("innovation", payload, frozen(h + decoded))


def encode_full(
    settings: Settings, codec: Codec, g: F32, rng: np.random.Generator | None
) -> Encoded:
    """Encode g itself."""
    payload = wire.encode(codec, g, rng)
    if not settings.sends_innovations:
        return Encoded("full", payload, None)
    decoded = wire.decode(payload, codec, g.size)
    return Encoded("full", payload, frozen(decoded.astype(settings.h_dtype)))


def encode_with_error(
    codec: Codec, g: F32, e: F64 | None, rng: np.random.Generator | None
) -> Encoded:
    """Encode e + g; what decoding leaves out stays in e, in float64.

    e ← e + u − decode(encode(e + u)), as in sparse local SGD; a lost upload counts as
    0 and stays in e. A merely unbiased codec is damped, as error feedback needs a
    contraction.
    """
    total = g.astype(np.float64) if e is None else e + g
    x = total.astype(np.float32)
    payload = wire.encode(codec, x, rng)
    decoded = wire.decode(payload, codec, x.size, codec.innovation_gain(x.size))
    return Encoded("full", payload, frozen(total - decoded), frozen(total))
