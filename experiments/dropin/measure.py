"""Measure the drop-in projects, plain and lazy, over several seeds.

``LASG_DATA=FOLDER python -m experiments dropin --out FOLDER`` runs each project in
this process, with its own configuration, and appends a row to ``runs.csv`` for each
run; runs that have a row already are not repeated. Then it writes ``summary.json``
and ``table.md``. Each project has seeds of its own, for with equal seeds the two lazy
projects take the same path to the bit.
"""

import logging
import os
import random
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from flwr.app import Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp

from lasg_flwr.flower import traffic

from ..inprocess import InProcessGrid
from .projects import PROJECTS, Apps, copy_project, load_apps
from .summary import Row, write_summary

CLIENTS = 10


def dropin_command(
    out: Annotated[Path, typer.Option()],
    seeds: Annotated[int, typer.Option(min=1)] = 5,
    projects: Annotated[str, typer.Option()] = ",".join(PROJECTS),
    variants: Annotated[str, typer.Option()] = "plain,lazy",
    rounds: Annotated[int, typer.Option(min=1)] = 80,
    fraction_train: Annotated[float, typer.Option(min=0.0, max=1.0)] = 1.0,
) -> None:
    """Run Flower projects plain and lazy, what is missing of it; summarise all.

    The environment variable LASG_DATA names a folder with mnist/ in it.
    """
    import torch

    data = os.environ.get("LASG_DATA")
    if not data:
        raise typer.BadParameter("LASG_DATA must name a folder with mnist/ in it")
    torch.set_num_threads(1)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    for project in projects.split(","):
        changes = {"num_server_rounds": rounds, "fraction_train": fraction_train}
        file = out / "runs.csv"
        _measure(project, variants.split(","), seeds, file, data, changes)
    typer.echo(write_summary(out))


def _measure(
    project: str,
    variants: list[str],
    seeds: int,
    file: Path,
    data: str,
    changes: dict[str, Any],
) -> None:
    with TemporaryDirectory(prefix="lasg-dropin-") as name:
        scratch = Path(name)
        apps = {v: load_apps(copy_project(project, v, scratch / v)) for v in variants}
        first = seeds * PROJECTS.index(project)
        for seed, variant in product(range(first, first + seeds), variants):
            if (project, variant, seed) in {row.key for row in Row.read(file)}:
                continue
            random.seed(seed)  # FedAvg samples with it
            mnist = Path(data) / "mnist"
            figures = run(apps[variant], mnist, scratch, seed=seed, **changes)
            row = Row(project=project, variant=variant, seed=seed, **figures)
            row.append_to(file)
            typer.echo(row)


def run(apps: Apps, data: Path, scratch: Path, **changes: Any) -> dict[str, Any]:
    """Run a project in this process; return what it sent and how good it became.

    `data` is the folder of the MNIST files, `scratch` where the project saves its
    model; `changes` are those of the project's configuration, ``_`` for ``-`` in the
    names. The result are the columns of `Row` from ``rounds`` on.
    """
    import torch

    config = {
        **apps.config,
        "data-dir": str(data),
        "model-file": str(scratch / "model.pt"),
        "fraction-evaluate": 0.0,  # evaluation changes nothing of the training
        "evaluate-every": 10**9,
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    counter = Counter(apps.client)
    grid = InProcessGrid(counter, CLIENTS, run_config=config)
    start = time.process_time()
    apps.server(grid, Context(1, 1, {}, RecordDict(), config))
    seconds = time.process_time() - start
    failed = [reply.error.reason for reply in grid.replies if reply.has_error()]
    if failed:
        raise RuntimeError(f"{len(failed)} replies are errors; the first: {failed[0]}")
    net = apps.task.Net()
    net.load_state_dict(torch.load(config["model-file"], weights_only=True))
    loss, accuracy = apps.task.test(net, apps.task.load_test_data(str(data)))
    return {
        "rounds": config["num-server-rounds"],
        **counter.as_dict(),
        "test_loss": loss,
        "test_accuracy": accuracy,
        "seconds": seconds,
    }


class Counter:
    """A ClientApp that counts the training messages of the one in it.

    An upload is a reply with something in its arrays; its payload is these arrays.
    """

    def __init__(self, app: ClientApp) -> None:
        self._app = app
        self.requests = self.uploads = self.payload_bytes = 0
        self.moved = traffic.Traffic(0, 0)

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message, counted before Flower's older server empties it."""
        reply = self._app(message, context)
        if message.metadata.message_type != MessageType.TRAIN:
            return reply
        parts = self.moved, traffic.of_requests([message]), traffic.of_replies([reply])
        self.moved = traffic.Traffic(*map(sum, zip(*parts, strict=True)))
        payload = sum(
            array.numpy().nbytes
            for record in reply.content.array_records.values()
            for array in record.values()
            if array.data
        )
        self.requests += 1
        self.uploads += payload > 0
        self.payload_bytes += payload
        return reply

    def as_dict(self) -> dict[str, int]:
        """Return the columns of `Row` that are counted here."""
        return {
            "requests": self.requests,
            "uploads": self.uploads,
            "uplink_payload_bytes": self.payload_bytes,
            "uplink_message_bytes": self.moved.uplink_bytes,
            "downlink_message_bytes": self.moved.downlink_bytes,
        }
