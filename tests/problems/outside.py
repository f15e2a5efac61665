"""A rule with state of its own, a codec and a server step from outside the package."""

from dataclasses import dataclass
from math import nan
from typing import Any, ClassVar, NamedTuple

import numpy as np

import lasg_flwr
from lasg_flwr.codecs import Codec
from lasg_flwr.codecs.coding.entropy import BytesLike
from lasg_flwr.errors import WireError
from lasg_flwr.optim import ServerStep
from lasg_flwr.rules import Outcome, Seen, WorkerRule
from lasg_flwr.vectors import F32, F64, squared_distance


class Counts(NamedTuple):
    """What the rule counts, in a NamedTuple of its own inside its state."""

    skips: int
    largest: float


class ImpatientState(NamedTuple):
    """The last upload, and what has happened since; changes on every skip."""

    theta: F32
    gradient: F32
    seen: F64
    counts: Counts


@lasg_flwr.register
@dataclass(frozen=True)
class Impatient(WorkerRule[ImpatientState]):
    """LAG whose left-hand side grows with each skip, and with what was seen."""

    name: ClassVar[str] = "test-impatient"
    worker_state = ImpatientState

    impatience: float = 0.5

    def update(
        self, state: ImpatientState | None, seen: Seen
    ) -> Outcome[ImpatientState]:
        zero = np.zeros(seen.theta.size)
        new = ImpatientState(seen.theta, seen.gradient, zero, Counts(0, 0.0))
        if state is None:
            return Outcome(seen.gradient, None, new)
        distance = squared_distance(seen.gradient, state.gradient)
        lhs = distance * (1 + self.impatience * state.counts.skips)
        largest = max(state.counts.largest, distance)
        kept = state._replace(
            seen=state.seen + seen.gradient,
            counts=Counts(state.counts.skips + 1, largest),
        )
        return Outcome(seen.gradient, kept, new, nan if seen.forced else lhs)


@lasg_flwr.register
@dataclass(frozen=True)
class Halves(Codec):
    """Every number as a float16, in units of the largest: contractive."""

    name: ClassVar[str] = "test-halves"
    tag: ClassVar[int] = 200

    def alpha(self, size: int) -> float:
        return 0.9

    def encode(self, x: F32, rng: np.random.Generator | None = None) -> bytes:
        unit = np.float32(np.abs(x).max(initial=0.0)) or np.float32(1)
        return unit.tobytes() + (x / unit).astype("<f2").tobytes()

    def decode(self, body: BytesLike, size: int) -> F32:
        if len(body) != 4 + 2 * size:
            raise WireError("a body of a wrong length")
        unit = np.frombuffer(body, "<f4", 1)
        x: F32 = np.frombuffer(body, "<f2", size, 4).astype(np.float32) * unit
        return x


class Averaged(NamedTuple):
    """The running mean of the gradients."""

    steps: int
    mean: F64


@lasg_flwr.register
@dataclass(frozen=True)
class Averaging(ServerStep[Averaged]):
    """Steps along the mean of this gradient and all before."""

    name: ClassVar[str] = "test-averaging"
    state = Averaged

    def init(self, size: int) -> Averaged:
        return Averaged(0, np.zeros(size))

    def direction(
        self, gradient: F64, state: Averaged | None
    ) -> tuple[F64, Averaged | None]:
        old = self.init(gradient.size) if state is None else state
        steps = old.steps + 1
        mean = old.mean + (gradient - old.mean) / steps
        return mean, Averaged(steps, mean)


OPTIONS: dict[str, Any] = {
    "rule": "test-impatient:c=0.75,impatience=0.3,max_delay=15",
    "codec": "test-halves",
    "step": "test-averaging:rate=0.05",
}
