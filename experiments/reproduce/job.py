"""A job: one method with one seed, and everything that determines its result."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from lasg_flwr.settings import Memory, Settings

from ..compare import Comparison, run_method
from ..data import NAMES, NETWORK_NAMES, Dataset, load, partition
from ..methods import RULES, Hyperparameters, local_steps_of, memory_and_codec
from ..tasks import (
    L2,
    Batch,
    LinearTask,
    Task,
    build_network_task,
    build_task,
    worker_oracle,
)
from . import network_data, synthetic


class ConfigError(ValueError):
    """A study's file says something that cannot be run."""


@dataclass(frozen=True)
class Job:
    """One method with one seed.

    Attributes
    ----------
    dataset, partition : str
        The data, and how they are spread.
    method, codec, memory : str
        What runs, see `experiments.methods`.
    workers, iterations, seed : int
        M, local iterations in all (K = iterations / H rounds), seed of everything.
    learning_rate : float
        η.
    evaluate_every : int
        Iterations from one evaluation to the next.
    local_steps, max_delay, d_max : int
        H, D, d_max.
    c : float, optional
        Threshold constant; None is 1/η² (1 with local steps).
    batch_size, batch_fraction : optional
        Size of a minibatch, or its share of a worker's data.
    proximal : float
        μ of FedProx.
    top_k, batch_growth, initial_batch : optional
        Of sparse local SGD: shares or numbers k_m, ρ and b^(0).
    """

    dataset: str
    partition: str
    method: str
    workers: int
    iterations: int
    learning_rate: float
    seed: int
    codec: str = "dense"
    memory: Memory = "innovation"
    evaluate_every: int = 10
    local_steps: int = 1
    max_delay: int = 100
    d_max: int = 10
    c: float | None = None
    batch_size: int | None = None
    batch_fraction: float | None = None
    proximal: float = 0.1
    top_k: tuple[float, ...] = (0.01,)
    batch_growth: float = 1.0
    initial_batch: int | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """What the store knows the result by.

        Fields at their default are left out: one that is added later leaves the
        results that exist where they are.
        """
        values = {name: getattr(self, name) for name in _FIELDS}
        given = {k: v for k, v in values.items() if v != _FIELDS[k].default}
        return {"kind": "job", **given}

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The fields that methods share."""
        names = {field.name for field in fields(Hyperparameters)} & set(_FIELDS)
        return Hyperparameters(**{name: getattr(self, name) for name in names})

    @property
    def batch(self) -> Batch:
        """The minibatch size."""
        return Batch(self.batch_size, self.batch_fraction)

    def __str__(self) -> str:
        name = f"{self.dataset} {self.partition} {self.method}"
        if self.codec != "dense":
            name += f" {self.codec} {self.memory}"
        return f"{name} η={self.learning_rate:g}{self._others()} seed {self.seed}"

    def _others(self) -> str:
        """Return what tells runs of one method apart, where it is not the default."""
        shown = ("c", "local_steps", "max_delay", "d_max", "proximal")
        changed = [name for name in shown if name in self.spec]
        return "".join(f" {n.replace('_', '-')}={getattr(self, n):g}" for n in changed)


_FREE = {"dataset", "partition", "seed"}
_FIELDS = {field.name: field for field in fields(Job)}
PARAMETERS = (set(_FIELDS) - _FREE) | {"c_eta2", "iterations_times"}
"""What a config may set: the fields of a job, c in units of 1/η², and a factor."""

_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("method", "codec", "memory"), str),
    **dict.fromkeys(("learning_rate", "c", "c_eta2", "batch_fraction"), (int, float)),
    **dict.fromkeys(("proximal", "batch_growth"), (int, float)),
    "top_k": list,
}


def job_from(
    values: Mapping[str, Any], dataset: str, scheme: str, seed: int, where: str
) -> Job:
    """Build a job from a config's values.

    Raises
    ------
    ConfigError
        If a value is missing, of the wrong type, or does not go with another.
    """
    values = dict(values)
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, _TYPES.get(name, int)):
            raise ConfigError(f"{where}: {name} cannot be {value!r}")
    times = values.pop("iterations_times", 1)
    missing = [
        name
        for name, field in _FIELDS.items()
        if field.default is MISSING and name not in values and name not in _FREE
    ]
    if missing:
        raise ConfigError(f"{where}: {', '.join(missing)} missing")
    values["iterations"] *= times
    scaled = values.pop("c_eta2", None)
    if scaled is not None:
        if "c" in values:
            raise ConfigError(f"{where}: give c or c_eta2, not both")
        values["c"] = scaled / values["learning_rate"] ** 2
    if "top_k" in values:
        values["top_k"] = tuple(values["top_k"])
    job = Job(dataset=dataset, partition=scheme, seed=seed, **values)
    _check_numbers(job, where)
    if job.method not in RULES:
        raise ConfigError(
            f"{where}: unknown method {job.method!r}: choose from {', '.join(RULES)}"
        )
    try:
        memory, codec = memory_and_codec(job.method, job.memory, job.codec, job.top_k)
        Settings(RULES[job.method].name, codec, memory, "per-worker", 0)
        job.hyperparameters  # noqa: B018  checks k, ρ and b^(0)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    return job


def _check_numbers(job: Job, where: str) -> None:
    known = (*NAMES, *NETWORK_NAMES, *network_data.NAMES)
    if job.dataset not in known and not job.dataset.startswith(synthetic.PREFIX):
        choices = ", ".join((*known, f"{synthetic.PREFIX}N"))
        raise ConfigError(f"{where}: unknown data set {job.dataset!r}: {choices}")
    positive = ("workers", "iterations", "learning_rate", "evaluate_every")
    for name in (*positive, "local_steps"):
        if not getattr(job, name) > 0:
            raise ConfigError(f"{where}: {name} must be > 0, got {getattr(job, name)}")
    if (job.batch_size is None) == (job.batch_fraction is None):
        raise ConfigError(f"{where}: give batch_size or batch_fraction, one of them")


def run(job: Job, data_dir: Path | None = None) -> dict[str, Any]:
    """Run a job.

    Returns
    -------
    dict
        ``history``: one row per evaluation; ``totals``: the last row, and the final
        loss and accuracy (None if the run diverged). No times: equal jobs give equal
        results.
    """
    steps = local_steps_of(job.method, job.hyperparameters)
    config = Comparison(
        job.dataset,
        job.partition,
        (job.method,),
        (job.codec,),
        job.memory,
        job.workers,
        -(-job.iterations // steps),
        max(1, job.evaluate_every // steps),
        job.seed,
        job.batch,
        job.hyperparameters,
    )
    task = task_of(
        job.dataset, job.workers, job.partition, job.batch, job.seed, data_dir
    )
    done = run_method(config, task, job.method, job.codec, lambda: None)
    done.totals.pop("seconds")
    names = ("method", "codec", "memory", "local_steps")
    history = [
        {"iteration": row["round"] * steps}
        | {k: v for k, v in row.items() if k not in names}
        for row in done.history
    ]
    return {"history": history, "totals": done.totals}


@lru_cache(maxsize=1)
def _dataset(name: str, data_dir: Path | None) -> Dataset:
    made = name.startswith(synthetic.PREFIX)
    return synthetic.load(name) if made else load(name, data_dir)


@lru_cache(maxsize=1)
def task_of(
    dataset: str,
    workers: int,
    scheme: str,
    batch: Batch,
    seed: int,
    data_dir: Path | None,
) -> Task:
    """Return a task; the seed spreads the data. The last one is kept."""
    if dataset in network_data.NAMES:
        return build_network_task(
            dataset, lambda: network_data.load(dataset, data_dir), workers, scheme,
            batch, seed,
        )  # fmt: skip
    if dataset not in NAMES and not dataset.startswith(synthetic.PREFIX):
        return build_task(dataset, workers, scheme, batch, seed=seed, data_dir=data_dir)
    data = _dataset(dataset, data_dir)
    parts = partition(data.train_y, workers, scheme, seed)
    return LinearTask(data, [worker_oracle(data, part, batch) for part in parts], L2)
