"""Vectors from real training, which codecs are measured on."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lasg_flwr.oracles.base import Oracle
from lasg_flwr.oracles.local import LocalSteps
from lasg_flwr.random import keyed_generator
from lasg_flwr.vectors import F32

from .batches import Batch
from .tasks import build_task


class Sample(NamedTuple):
    """A vector, and the lengths of the tensors that it is made of."""

    x: F32
    sizes: tuple[int, ...]


CNN_ROUNDS = (5, 15, 40)
CNN_WORKERS = (0, 4, 8)
_SEED = 0


def updates(
    oracles: Sequence[Oracle], theta: F32, rounds: int, step: float = 1.0
) -> Iterator[list[F32]]:
    """Yield what the workers of FedAvg (or SGD) send in each round, before any codec.

    The mean of a round's vectors, times `step`, is taken from θ; round k of worker m
    draws its batches by the seed, m and k, as runs do.
    """
    for k in range(rounds):
        sent = []
        for m, oracle in enumerate(oracles):
            batch = oracle.draw(keyed_generator(_SEED, m, k))
            sent.append(oracle.gradient(theta, batch))
        yield sent
        theta = (theta - step * np.mean(sent, axis=0)).astype(np.float32)


def _last(found: Iterator[list[F32]]) -> list[F32]:
    """Return the last round's vectors."""
    *_, last = found
    return last


def _local(
    name: str,
    workers: int,
    partition: str,
    batch: int,
    steps: int,
    rate: float,
    data_dir: Path | None,
) -> tuple[Sequence[Oracle], F32, tuple[int, ...]]:
    task = build_task(name, workers, partition, Batch(size=batch), data_dir=data_dir)
    made = [LocalSteps(o, steps, rate) for o in task.oracles]
    return made, task.start(), _sizes(task.oracles[0])


def _sizes(oracle: Any) -> tuple[int, ...]:
    """Return the lengths of a network's parameters."""
    entries = oracle.layout.entries
    return tuple(e.size for e in entries if e.kind == "parameter" and e.size)


def cnn(data_dir: Path | None) -> dict[str, Sample]:
    """Return what CNNs send: MNIST, dirichlet:0.3, H = 10, η = 0.1, batches of 32."""
    oracles, theta, sizes = _local("mnist", 10, "dirichlet:0.3", 32, 10, 0.1, data_dir)
    found: dict[str, Sample] = {}
    for k, sent in enumerate(updates(oracles, theta, max(CNN_ROUNDS) + 1)):
        if k in CNN_ROUNDS:
            found |= {
                f"cnn, round {k}, worker {m}": Sample(sent[m], sizes)
                for m in CNN_WORKERS
            }
    return found


def mnist35(data_dir: Path | None) -> dict[str, Sample]:
    """Return a gradient of logistic regression by label, after 100 rounds."""
    task = build_task("mnist35", 10, "by-label", Batch(fraction=0.01),
                      data_dir=data_dir)  # fmt: skip
    sent = _last(updates(list(task.oracles), task.start(), 101, 0.1))
    return {"mnist35 gradient": Sample(sent[0], (sent[0].size,))}


def gru(data_dir: Path | None) -> dict[str, Sample]:
    """Return what a GRU sends: five roles of shakespeare, H = 10, η = 1, batch 8."""
    oracles, theta, sizes = _local("shakespeare", 5, "natural", 8, 10, 1.0, data_dir)
    return {"gru update": Sample(_last(updates(oracles, theta, 6))[0], sizes)}


def resnet18(data_dir: Path | None) -> dict[str, Sample]:
    """Return what ResNet18 sends: tiny-imagenet, H = 4, η = 0.05, batches of 16."""
    oracles, theta, sizes = _local("tiny-imagenet", 10, "iid", 16, 4, 0.05, data_dir)
    return {"resnet18 update": Sample(_last(updates(oracles[:1], theta, 3))[0], sizes)}


def lora(data_dir: Path | None) -> dict[str, Sample]:
    """Return what LoRA changes: rank 8, on a transformer trained for 150 steps.

    The base is trained on all roles, then only the adapters are on one role: 10 steps
    of SGD with η = 0.5; see `experiments.small_transformer`.
    """
    from .small_transformer import lora_update

    return {"lora update": Sample(*lora_update(data_dir))}


SOURCES: dict[str, Callable[[Path | None], dict[str, Sample]]] = {
    "cnn": cnn,
    "mnist35": mnist35,
    "gru": gru,
    "resnet18": resnet18,
    "lora": lora,
}
"""Where vectors come from, by the name given to ``--source``."""
