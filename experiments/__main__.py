"""``python -m experiments``: the commands."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from lasg_flwr.settings import Memory, Settings

from . import codec_study
from .compare import Comparison, check, compare, write
from .data import NAMES
from .figures import plot_comparison
from .methods import NO_SMOOTHNESS, RULES, Hyperparameters, memory_and_codec
from .output import clear_errors, make_folder
from .reproduce.command import CHOICES, reproduce_command
from .sparse import sparse_options
from .table import comparison_table
from .tasks import Batch, Task, build_task

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command("reproduce", epilog=CHOICES)(reproduce_command)
TABLE_WIDTH = 100


@dataclass(frozen=True)
class Defaults:
    """What a data set runs with unless told otherwise."""

    workers: int
    rounds: int
    batch: Batch
    partition: str = "iid"
    methods: str = "sgd,lag,wk1,wk2,ps,pse"
    learning_rate: float = 0.1
    max_delay: int = 100
    evaluate_every: int = 10


NETWORK_METHODS = "sgd,lag,wk1,wk2,pse"
"""PS needs L_m, which nobody knows for a network."""
DEFAULTS = {
    "digits": Defaults(10, 1000, Batch(size=32)),
    "mnist35": Defaults(10, 3000, Batch(fraction=0.01)),
    "ijcnn1": Defaults(10, 1000, Batch(fraction=0.01)),
    "covtype": Defaults(20, 1000, Batch(fraction=0.001)),
    "mnist": Defaults(10, 1500, Batch(size=12), "iid", NETWORK_METHODS, 0.05, 50, 25),
    "shakespeare": Defaults(
        10, 500, Batch(size=16), "natural", NETWORK_METHODS, 1.0, 50, 25
    ),
    "tiny-imagenet": Defaults(
        10, 200, Batch(size=16), "iid", NETWORK_METHODS, 0.05, 50, 20
    ),
}
"""Section IV of the paper, where it says so: it gives no batch size for MNIST. The
small digits take a larger share of their data."""
LINEAR = tuple(name for name in DEFAULTS if name in NAMES)


@app.callback()
def main() -> None:
    """Experiments of lasg-flwr."""


@app.command("compare")
def compare_command(
    dataset: Annotated[str, typer.Option(help=" | ".join(DEFAULTS))] = "digits",
    methods: Annotated[
        str | None, typer.Option(help=f"{', '.join(RULES)}; none: all but local ones")
    ] = None,
    codec: Annotated[
        list[str] | None, typer.Option(help="repeat for several; none: dense")
    ] = None,
    memory: Annotated[
        str, typer.Option(help="innovation | gradient | error")
    ] = "innovation",
    local_steps: Annotated[int, typer.Option(min=1, help="H")] = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="M")] = None,
    partition: Annotated[
        str | None, typer.Option(help="iid | by-label | natural | dirichlet:A")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="K")] = None,
    eval_every: Annotated[int | None, typer.Option(min=1)] = None,
    batch_fraction: Annotated[
        float | None, typer.Option(help="share of a worker's examples")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="η")] = None,
    max_delay: Annotated[int | None, typer.Option(min=1, help="D")] = None,
    d_max: Annotated[int, typer.Option(min=1)] = 10,
    c: Annotated[
        float | None, typer.Option(help="threshold constant; none: 1/η²")
    ] = None,
    top_k: Annotated[
        str | None,
        typer.Option(
            help="sparse-local-sgd: share (below 1) or number of coordinates that a "
            "device sends; several, as 0.01,0.02, are cycled over devices; none: 0.01"
        ),
    ] = None,
    batch_growth: Annotated[
        float | None, typer.Option(help="sparse-local-sgd: ρ of b = ρ^t b0; none: 1")
    ] = None,
    initial_batch: Annotated[
        int | None, typer.Option(help="sparse-local-sgd: b0; none: the batch size")
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="loss; none: 1.02 x dense sgd's final loss")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    data_dir: Annotated[Path | None, typer.Option()] = None,
    out: Annotated[Path, typer.Option()] = Path("results/compare"),
) -> None:
    """Run methods side by side; print a table, write CSV, JSON and plots.

    What is not given is what the paper has for the data set.
    """
    if dataset not in DEFAULTS:
        raise typer.BadParameter(f"{dataset!r}: choose one of {', '.join(DEFAULTS)}")
    defaults = DEFAULTS[dataset]
    with clear_errors():
        chosen = _methods(methods or defaults.methods)
        sparse = sparse_options(chosen, top_k, batch_growth, initial_batch)
        config = Comparison(
            dataset,
            partition or defaults.partition,
            chosen,
            tuple(codec or ["dense"]),
            _memory(memory),
            workers or defaults.workers,
            rounds or defaults.rounds,
            eval_every or defaults.evaluate_every,
            seed,
            _batch(batch_size, batch_fraction, defaults.batch),
            Hyperparameters(
                defaults.learning_rate if learning_rate is None else learning_rate,
                max_delay or defaults.max_delay,
                d_max,
                c,
                local_steps,
                **sparse,
            ),
            target,
        )
        _check(config)
        _run(config, _task(config, data_dir), out)


@app.command("codecs")
def codecs_command(
    dataset: Annotated[str, typer.Option(help=" | ".join(LINEAR))] = "digits",
    codec: Annotated[
        list[str] | None, typer.Option(help="repeat for several; none: all")
    ] = None,
    partition: Annotated[
        str, typer.Option(help="iid | by-label | dirichlet:A")
    ] = "by-label",
    rounds: Annotated[int | None, typer.Option(min=1, help="K")] = None,
    factor: Annotated[
        float, typer.Option(help="target: this x dense sgd's final loss")
    ] = 1.02,
    learning_rate: Annotated[float, typer.Option(help="η")] = 0.1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    data_dir: Annotated[Path | None, typer.Option()] = None,
    out: Annotated[Path, typer.Option()] = Path("results/codecs"),
) -> None:
    """Run SGD, WK2 and PSE with every codec in every memory, and rank them."""
    if dataset not in LINEAR:
        raise typer.BadParameter(f"{dataset!r}: choose one of {', '.join(LINEAR)}")
    defaults = DEFAULTS[dataset]
    chosen = tuple(dict.fromkeys(["dense", *(codec or codec_study.CODECS)]))
    config = Comparison(
        dataset,
        partition,
        codec_study.METHODS,
        chosen,
        "innovation",
        defaults.workers,
        rounds or defaults.rounds,
        10,
        seed,
        defaults.batch,
        Hyperparameters(learning_rate),
    )
    with clear_errors():
        task = _task(config, data_dir)
        make_folder(out)
        total = len(codec_study.combinations(chosen)) * config.rounds
        with _progress(f"{dataset}, rounds of all runs", total) as advance:
            history, summary = codec_study.study(config, task, factor, advance)
    codec_study.write(summary, out)
    codec_study.plot(history, summary, out)
    console = Console()
    Console(width=max(console.width, TABLE_WIDTH)).print(
        codec_study.best_table(summary)
    )
    console.print(f"written to {out}: summary.json, codecs.png")


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar; yield what moves it on by one."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        transient=True,
    ) as bar:
        handle = bar.add_task(what, total=total)
        yield lambda: bar.advance(handle)


def _task(config: Comparison, data_dir: Path | None) -> Task:
    return build_task(
        config.dataset,
        config.workers,
        config.partition,
        config.batch,
        seed=config.seed,
        data_dir=data_dir,
    )


def _run(config: Comparison, task: Task, out: Path) -> None:
    check(config, task)
    make_folder(out)
    console = Console()
    for name, value in task.notes.items():
        console.print(f"{name.replace('_', ' ')}: {value}", style="dim")
    total = len(config.runs()) * config.rounds
    with _progress(f"{config.dataset}, rounds of all runs", total) as advance:
        history, summary = compare(config, task, advance)
    write(history, summary, out)
    plots = plot_comparison(history, summary, out)
    width = max(console.width, TABLE_WIDTH)
    Console(width=width).print(comparison_table(summary))
    names = ", ".join(p.name for p in plots)
    console.print(
        f"written to {out}: history.csv, summary.json, {names}", soft_wrap=True
    )


def _methods(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in RULES:
            raise ValueError(f"unknown method {name!r}: choose from {', '.join(RULES)}")
    return names


def _memory(text: str) -> Memory:
    for memory in get_args(Memory):
        if text == memory:
            return cast(Memory, memory)
    raise ValueError(
        f"unknown memory {text!r}: choose one of {', '.join(get_args(Memory))}"
    )


def _batch(size: int | None, fraction: float | None, default: Batch) -> Batch:
    if size is not None and fraction is not None:
        raise ValueError("give --batch-size or --batch-fraction, not both")
    if fraction is not None and not 0.0 < fraction <= 1.0:
        raise ValueError(f"--batch-fraction must lie in (0, 1], got {fraction}")
    return default if size is None and fraction is None else Batch(size, fraction)


def _check(config: Comparison) -> None:
    """Refuse what does not go together before any work is done."""
    if "ps" in config.methods and config.dataset not in LINEAR:
        raise ValueError(NO_SMOOTHNESS)
    for method, spec in config.runs():
        memory, spec = memory_and_codec(
            method, config.memory, spec, config.hyperparameters.top_k
        )
        Settings(RULES[method].name, spec, memory, "per-worker", 0)


if __name__ == "__main__":
    app()
