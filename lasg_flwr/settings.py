"""What server and workers agree on for a run."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from .codecs import Codec
from .cycle import CodecChoice, codec_of, cycle_from, cycle_spec
from .rules import Rule, rule_from

Memory = Literal["innovation", "gradient", "error"]
ServerMemory = Literal["per-worker", "sum-only"]

U64 = 1 << 64
"""One more than the largest seed, round or key."""


@dataclass(frozen=True)
class Settings:
    """What server and workers agree on for a run; chosen on the server alone.

    Attributes
    ----------
    rule, codec : str
        String forms. The worker's form of a rule has neither c nor L_m; the codec may
        be a cycle over workers, see `lasg_flwr.cycle`.
    memory : {"innovation", "gradient", "error"}
        What an upload is relative to: the last decoded gradient, nothing, or what
        earlier uploads left out.
    server_memory : {"per-worker", "sum-only"}
        Whether the server holds every h_m, or only their weighted sum: O(p).
    seed : int
        Seed of the run, for batches and rounding.
    """

    rule: str
    codec: str
    memory: Memory
    server_memory: ServerMemory
    seed: int

    def __post_init__(self) -> None:
        for name in ("rule", "codec"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"bad {name} {getattr(self, name)!r}: give its string")
        if self.memory not in get_args(Memory):
            raise ValueError(
                f"unknown memory {self.memory!r}: choose one of "
                f"{', '.join(get_args(Memory))}"
            )
        if self.server_memory not in get_args(ServerMemory):
            raise ValueError(
                f"unknown server memory {self.server_memory!r}: choose one of "
                f"{', '.join(get_args(ServerMemory))}"
            )
        if not isinstance(self.seed, int) or not 0 <= self.seed < U64:
            raise ValueError(
                f"seed must be an integer in [0, 2**64), got {self.seed!r}"
            )
        codecs = cycle_from(self.codec)
        if self.memory == "error":
            self._check_error_memory()
        if self.memory == "gradient" and self.server_memory == "sum-only":
            raise ValueError(
                "gradient memory needs server_memory='per-worker': the server must "
                "subtract a worker's old gradient; or choose memory='innovation'"
            )
        if self.memory == "gradient" and any(c.omega(2) is None for c in codecs):
            raise ValueError(
                f"codec {self.codec!r} is biased, so it cannot be used with gradient "
                "memory; choose memory='innovation' or an unbiased codec"
            )
        _ = self.rule_object

    def _check_error_memory(self) -> None:
        if self.rule_object.decided_by != "nobody":
            raise ValueError(
                f"error memory reuses nothing, so rule {self.rule!r} cannot "
                "skip: choose rule='sgd', or memory='innovation'"
            )
        if self.server_memory != "per-worker":
            raise ValueError(
                "error memory keeps no vector for a worker at the server: leave "
                "server_memory at 'per-worker'"
            )

    @cached_property
    def rule_object(self) -> Rule:
        """The rule."""
        return rule_from(self.rule)

    def full_codec(self, choice: CodecChoice | None) -> str:
        """Return the codec of a worker's full uploads after its first.

        Parameters
        ----------
        choice : str, Codec, or sequence of these, optional
            Left out, dense under sum-only memory and the run's codec otherwise.

        Raises
        ------
        ValueError
            If all uploads are full, and another codec than the run's is asked for.
        """
        fallback = "dense" if self.server_memory == "sum-only" else self.codec
        spec = cycle_spec(fallback if choice is None else choice)
        if not self.sends_innovations and spec != self.codec:
            raise ValueError(
                f"full_codec {spec!r} would replace the codec {self.codec!r}: all "
                "uploads of this run are full; leave it out"
            )
        return spec

    def codec_for(self, key: int) -> Codec:
        """Return the codec of the worker `key`."""
        return codec_of(self.codec, key)

    @cached_property
    def h_dtype(self) -> type[np.floating[Any]]:
        """Precision in which a worker keeps h_m: in float32 sums would drift."""
        return np.float64 if self.server_memory == "sum-only" else np.float32

    @cached_property
    def sends_innovations(self) -> bool:
        """Whether a worker with a known base sends g − h_m rather than g."""
        if self.memory != "innovation":
            return False
        lossless = all(codec.lossless for codec in cycle_from(self.codec))
        return self.server_memory == "sum-only" or not lossless
