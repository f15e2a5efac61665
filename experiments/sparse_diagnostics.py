"""Sparse local SGD with the quantities of Lemmas 1 to 3 at every local iteration.

The state machines are those of every other run; what is added looks on. In float64,
from the points, gradients, payloads and error memories that the run really had:

- Lemma 1: (1/M) Σ ŵ_m^(t) − w̃^(t) = (1/M) Σ e_m^(t), where w̃^(t+1) = w̃^(t) − η q^(t)
  and q^(t) is the mean of the minibatch gradients. The run holds θ and sends uploads in
  float32; what that rounds away is known exactly, is taken into account, and is
  reported beside the law;
- Lemma 2: (1/M) Σ ‖ŵ^(t) − ŵ_m^(t)‖² ≤ η²G²H²;
- Lemma 3: ‖e_m^(t)‖² ≤ 4 δ_m² η²G²H², δ_m = p/k_m;

with G the largest ‖∇f_m(ŵ_m; D_m)‖ seen so far. Lemmas 1 and 2 survive lost uploads and
absent devices, Lemma 3 only the latter: an error that is not sent does not contract. If
no upload is lost more than L − 1 times in a row, ‖e_m‖ ≤ (2δ_m + 1) η G L H.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lasg_flwr import LasgConfig, LasgServer, LasgWorker
from lasg_flwr.codecs import TopK, wire
from lasg_flwr.codecs.assignment import codec_of
from lasg_flwr.oracles.base import Oracle
from lasg_flwr.oracles.batches import BatchSchedule, ScheduledBatches
from lasg_flwr.oracles.local import LocalSteps
from lasg_flwr.oracles.wrapper import OracleWrapper
from lasg_flwr.vectors import F32, F64

from .run import top_k_codec


@dataclass(frozen=True)
class Iteration:
    """What the lemmas speak of, at one local iteration.

    Attributes
    ----------
    iteration : int
        t.
    largest_gradient : float
        G so far.
    memory_gap : float
        Lemma 1: largest |mean ŵ − w̃ − mean e − rounding| of a coordinate.
    rounding : float
        Largest coordinate of what float32 rounded away so far.
    deviation, deviation_bound : float
        Both sides of Lemma 2.
    error, error_bound : float
        Both sides of Lemma 3, of the device that is nearest to its bound.
    """

    iteration: int
    largest_gradient: float
    memory_gap: float
    rounding: float
    deviation: float
    deviation_bound: float
    error: float
    error_bound: float


class _Noting(OracleWrapper):
    """An oracle that notes the points it was asked about, and its answers."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.points: list[F64] = []
        self.gradients: list[F64] = []

    @property
    def num_examples(self) -> int:
        return self.oracle.num_examples

    def draw(self, rng: np.random.Generator) -> Any:
        return self.oracle.draw(rng)

    def gradient(self, theta: F32, batch: Any) -> F32:
        gradient = self.oracle.gradient(theta, batch)
        self.points.append(theta.astype(np.float64))
        self.gradients.append(gradient.astype(np.float64))
        return gradient


class _Device(NamedTuple):
    worker: LasgWorker
    local: _Noting
    update: _Noting
    delta: float


class SparseRun:
    """A run of sparse local SGD that can be looked into.

    Parameters
    ----------
    oracles, theta : sequence of Oracle, and ndarray, shape (p,)
        One for each device, and w^(0).
    steps, learning_rate : int and float
        H and η.
    top_k : sequence of float or int
        Shares (below 1) or numbers k_m, cycled over the devices.
    schedule : BatchSchedule, optional
        Minibatches; left out, the oracles' own.
    seed : int (default: 0)
        Seed of the minibatches.
    """

    def __init__(
        self,
        oracles: Sequence[Oracle],
        theta: NDArray[Any],
        *,
        steps: int,
        learning_rate: float,
        top_k: Sequence[int | float],
        schedule: BatchSchedule | None = None,
        seed: int = 0,
    ) -> None:
        self.steps, self.learning_rate = steps, learning_rate
        codec = top_k_codec(tuple(top_k))
        config = LasgConfig("sgd", codec, memory="error", step=1.0, seed=seed)
        self.server = LasgServer(theta, config)
        self.devices = [
            self._device(key, oracle, schedule) for key, oracle in enumerate(oracles)
        ]
        for key, device in enumerate(self.devices):
            self.server.introduce(key, key, device.worker.oracle.num_examples)
        self.largest_gradient = 0.0
        self.virtual: F64 = self.server.theta.astype(np.float64)
        self.rounding: F64 = np.zeros_like(self.virtual)

    def _device(
        self, key: int, oracle: Oracle, schedule: BatchSchedule | None
    ) -> _Device:
        inner = oracle if schedule is None else ScheduledBatches(oracle, schedule)
        local = _Noting(inner)
        update = _Noting(LocalSteps(local, self.steps, self.learning_rate))
        size = self.server.theta.size
        codec = codec_of(self.server.settings.codec, key)
        kept = codec.kept(size) if isinstance(codec, TopK) else size
        return _Device(LasgWorker(update, key), local, update, size / kept)

    def error(self, key: int) -> F64:
        """Return e_m: what the device has not been able to send so far."""
        pending = self.devices[key].worker.state.pending
        kept: Any = None
        if pending is not None:
            accepted = pending.id == self.server.roster.records[key].id
            kept = pending.memory.accepted if accepted else pending.memory.lost
        return np.zeros_like(self.virtual) if kept is None else kept

    def round(
        self, away: Collection[int] = (), lost: Collection[int] = ()
    ) -> list[Iteration]:
        """Run one round; return its H local iterations.

        Parameters
        ----------
        away : collection of int
            Devices that get no request.
        lost : collection of int
            Devices whose upload does not arrive.

        Where some do not, the server's mean is over the others; w̃ takes what that
        adds to the step of the paper, (1/M) Σ decoded, as well.
        """
        server = self.server
        before = server.theta.astype(np.float64)
        errors = [self.error(key) for key in range(len(self.devices))]
        for device in self.devices:
            for noted in (device.local, device.update):
                noted.points.clear()
                noted.gradients.clear()
        decoded, arrived = self._exchange(away, lost)
        found = [self._look(h, before, errors) for h in range(self.steps)]
        count = len(self.devices)
        mean = decoded / max(arrived, 1)
        self.virtual = self._virtual(self.steps) - (mean - decoded / count)
        moved = server.theta.astype(np.float64) - (before - mean)
        self.rounding = self.rounding + moved + self._upload_rounding()
        return found

    def _exchange(
        self, away: Collection[int], lost: Collection[int]
    ) -> tuple[F64, int]:
        """Ask and answer; return sum and number of what the server must have taken."""
        server, total, arrived = self.server, np.zeros_like(self.virtual), 0
        present = [key for key in range(len(self.devices)) if key not in away]
        for key, request in server.open_round(present):
            reply = self.devices[key].worker.handle(request)
            if reply is None or key in lost or not server.receive(key, reply).kept:
                continue
            codec = codec_of(server.settings.codec, key)
            total += wire.decode(reply.payload, codec, total.size)
            arrived += 1
        server.close_round()
        return total, arrived

    def _look(self, h: int, before: F64, errors: list[F64]) -> Iteration:
        points = self.points(h, before)
        for device in self.devices:
            for gradient in device.local.gradients[h : h + 1]:
                norm = float(np.linalg.norm(gradient))
                self.largest_gradient = max(self.largest_gradient, norm)
        mean, virtual = points.mean(axis=0), self._virtual(h)
        steps = before - self.virtual + virtual  # the mean of exact local steps
        rounding = self.rounding + mean - steps
        gap = mean - virtual - np.mean(errors, axis=0) - rounding
        bound = (self.learning_rate * self.largest_gradient * self.steps) ** 2
        sides = [
            (float(e @ e), 4 * device.delta**2 * bound)
            for e, device in zip(errors, self.devices, strict=True)
        ]
        error, error_bound = max(sides, key=lambda side: side[0] / (side[1] or 1.0))
        return Iteration(
            (self.server.round - 1) * self.steps + h,
            self.largest_gradient,
            float(np.abs(gap).max()),
            float(np.abs(rounding).max()),
            float(np.mean(np.sum((points - mean) ** 2, axis=1))),
            bound,
            error,
            error_bound,
        )

    def points(self, h: int, away: F64) -> F64:
        """Return the ŵ_m of local iteration h of the last round, shape (M, p).

        A device that was not asked is at `away`, the w of the round.
        """
        return np.stack(
            [d.local.points[h] if d.local.points else away for d in self.devices]
        )

    def _virtual(self, h: int) -> F64:
        """Return w̃ after h local iterations of this round."""
        total = np.zeros_like(self.virtual)
        for device in self.devices:
            for gradient in device.local.gradients[:h]:
                total += gradient
        moved: F64 = self.virtual - self.learning_rate * total / len(self.devices)
        return moved

    def _upload_rounding(self) -> F64:
        """Return the mean of ηΣg − u: what float32 made of the local steps."""
        total = np.zeros_like(self.virtual)
        for device in self.devices:
            for gradient in device.local.gradients:
                total += self.learning_rate * gradient
            for update in device.update.gradients:
                total -= update
        mean: F64 = total / len(self.devices)
        return mean
