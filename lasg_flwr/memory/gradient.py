"""Gradient memory (LAQSG as the paper has it): an upload is the gradient, quantized."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..codecs import Codec, spec_of
from ..vectors import F32
from .base import Encoded, Generators, Slots, Upload, encoded
from .per_worker import Held, PerWorker, length


@dataclass(frozen=True)
class Gradient(PerWorker):
    """Send encode(g); both sides set h_m to what it decodes to: (18) in (4).

    The server subtracts the old h_m, and so keeps each worker's last payload as the
    bytes it received, not as a dense vector. The worker keeps nothing.
    """

    name: ClassVar[str] = "gradient"
    worker_state = None

    def check(self, codecs: Sequence[Codec], decided_by: str) -> None:
        """Raise ValueError for a biased codec: its error would never average out."""
        for codec in codecs:
            if codec.omega(2) is None:
                raise ValueError(
                    f"codec {spec_of(codec)!r} is biased, so it cannot be used with "
                    "gradient memory; choose memory='innovation' or an unbiased codec"
                )

    def encode(
        self, codec: Codec, g: F32, slots: Slots[Any], rng: Generators
    ) -> Encoded:
        """Encode g."""
        return Encoded("full", encoded(codec, g, rng), None)

    def keep(self, h: F32, upload: Upload) -> Held:
        """Hold the payload."""
        codec = spec_of(upload.codec)
        return Held(True, None, bytes(upload.payload), codec, length(h))
