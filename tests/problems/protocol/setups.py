"""The rules, codecs, memories and oracles of random histories."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from lasg_flwr import Oracle
from lasg_flwr.codecs import CODECS, Codec
from lasg_flwr.codecs.coding.entropy import BytesLike
from lasg_flwr.config import MemoryName, ServerMemoryName, Weighting
from lasg_flwr.errors import WireError
from lasg_flwr.protocol.broadcast import Broadcast
from lasg_flwr.protocol.server import LasgServer
from lasg_flwr.vectors import F32
from tests.problems.servers import server_for

SIZE = 3
DENSE_BYTES = 300
MAX_WORKERS = 5
_CENTRES = np.array([[1, -1, 0], [0, 1, -1], [1, 1, 1]], np.float32)


@dataclass(frozen=True)
class Coin(Codec):
    """Keep each coordinate with probability 1/2, doubled: unbiased, ω = 1."""

    name: ClassVar[str] = "test-coin"
    tag: ClassVar[int] = 201
    stochastic: ClassVar[bool] = True

    def omega(self, size: int) -> float:
        return 1.0

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        if rng is None:
            raise ValueError("this codec draws random numbers")
        kept = rng.integers(0, 2, x.size).astype(np.float32)
        return (2 * kept * x).astype("<f4").tobytes()

    def decode(self, body: BytesLike, size: int) -> F32:
        if len(body) != 4 * size:
            raise WireError("a coin body of a wrong length")
        return np.frombuffer(body, "<f4")


@dataclass(frozen=True)
class Powers(Codec):
    """Signs times mean |x| rounded down to a power of two: contractive, α = 1/(2p)."""

    name: ClassVar[str] = "test-powers"
    tag: ClassVar[int] = 202

    def alpha(self, size: int) -> float:
        return 0.5 / size

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        scale = float(np.abs(x).mean(dtype=np.float64))
        power = -100 if scale < 2.0**-100 else int(np.floor(np.log2(scale)))
        return struct.pack("<b", power) + np.sign(x).astype(np.int8).tobytes()

    def decode(self, body: BytesLike, size: int) -> F32:
        if len(body) != 1 + size:
            raise WireError("a powers body of a wrong length")
        signs = np.frombuffer(body, np.int8, size, 1)
        return signs.astype(np.float32) * np.float32(
            2.0 ** struct.unpack_from("b", body)[0]
        )


@contextmanager
def coarse_codecs() -> Iterator[None]:
    """Register the codecs of this module for the time of a test.

    Vectors are so short that steps would never pay; a dense model is made to cost more.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Broadcast, "dense_bytes", property(lambda self: DENSE_BYTES))
        for codec in (Coin, Powers):
            patch.setitem(CODECS.classes, codec.name, codec)
        yield


@dataclass(frozen=True)
class Setup:
    """Arguments of a run."""

    rule: str
    codec: str
    memory: MemoryName = "innovation"
    server_memory: ServerMemoryName = "per-worker"
    weights: Weighting = "equal"
    full_codec: str | None = None
    lost_share: float = 0.5
    max_delay: int = 4
    c: float = 0.125
    downlink: str = "dense"

    @property
    def sum_only(self) -> bool:
        return self.server_memory == "sum-only"

    def server(self) -> LasgServer:
        """Return a new server, in a new session."""
        head, _, tail = self.rule.partition(":")
        options = f"c={self.c},d_max=2,max_delay={self.max_delay}"
        return server_for(
            np.zeros(SIZE, np.float32),
            f"{head}:{options}" + (f",{tail}" if tail else ""),
            self.codec,
            memory=self.memory,
            server_memory=self.server_memory,
            step=0.5,
            weights=self.weights,
            full_codec=self.full_codec,
            lost_share=self.lost_share,
            downlink=self.downlink,
        )


RULES = ("sgd", "lag", "wk1", "wk2", "ps:smoothness=1.0", "pse")
DOWNLINKS = ("topk:k=1", "topk:k=3", "test-powers", "sign")
LOSSY = ("topk:k=1", "test-powers", "test-coin")
CYCLE = "test-coin;topk:k=1;dense;topk:k=2"
MEMORIES: dict[tuple[MemoryName, ServerMemoryName], tuple[str, ...]] = {
    ("gradient", "per-worker"): ("dense", "test-coin", "test-coin;dense"),
    ("innovation", "per-worker"): ("dense", *LOSSY, CYCLE),
    ("innovation", "sum-only"): ("dense", *LOSSY, CYCLE),
}


def random_setup(
    rng: np.random.Generator,
    rules: Sequence[str] = RULES,
    memories: Sequence[tuple[MemoryName, ServerMemoryName]] = tuple(MEMORIES),
    downlinks: Sequence[str] = (),
) -> Setup:
    """Draw a setup; memories, rules and codecs are equally likely."""
    memory, server_memory = memories[int(rng.integers(len(memories)))]
    codec = str(rng.choice(MEMORIES[memory, server_memory]))
    sparse = memory == "innovation" and codec != "dense"
    return Setup(
        rule=str(rng.choice(rules)),
        codec=codec,
        memory=memory,
        server_memory=server_memory,
        weights="examples" if rng.random() < 0.5 else "equal",
        full_codec="dense" if sparse and rng.random() < 0.5 else None,
        lost_share=float(rng.choice([0.0, 0.4, 1.0])),
        max_delay=int(rng.integers(2, 7)),
        c=float(rng.choice([0.125, 1.25, 12.5])),
        downlink=str(rng.choice(downlinks)) if downlinks else "dense",
    )


class CoarseOracle(Oracle):
    """Small integer gradients that are often equal, and no promise kept.

    The batch does not come from the keyed generator: answering one request twice
    gives two gradients, as on a machine that adds up in another order every time.
    """

    num_examples: int
    size = SIZE

    def __init__(self, num_examples: int, dice: np.random.Generator) -> None:
        self.num_examples = num_examples
        self._dice = dice
        self.last: F32 | None = None

    def draw(self, rng: np.random.Generator) -> int:
        return int(self._dice.integers(len(_CENTRES)))

    def gradient(self, theta: F32, batch: int) -> F32:
        self.last = theta
        pull = np.clip(np.rint(theta), -2, 2)
        return np.asarray(_CENTRES[batch] + pull, np.float32)
