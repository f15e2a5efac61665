"""``python -m experiments compare`` and ``codecs``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from . import codecs
from .compare import TARGET_FACTOR, compare, plan, write, write_summary
from .data import NAMES, NETWORK_NAMES
from .methods import NO_SMOOTHNESS
from .output import WIDTH, clear_errors, make_folder
from .plots.comparison import plot_codecs, plot_comparison
from .run import RULES, SPARSE, Run
from .table import comparison_table
from .training import check, task_of

METHODS = "sgd,lag,wk1,wk2,ps,pse,vr"
_NETWORK: dict[str, Any] = {"learning_rate": 0.05, "max_delay": 50}
DEFAULTS = {
    "digits": Run(batch_size=32),
    "mnist35": Run("mnist35", iterations=3000, batch_fraction=0.01),
    "ijcnn1": Run("ijcnn1", batch_fraction=0.01),
    "covtype": Run("covtype", workers=20, batch_fraction=0.001),
    "mnist": Run("mnist", iterations=1500, batch_size=12, evaluate_every=25,
                 **_NETWORK),
    "shakespeare": Run("shakespeare", "natural", iterations=500, batch_size=16,
                       learning_rate=1.0, max_delay=50, evaluate_every=25),
    "tiny-imagenet": Run("tiny-imagenet", iterations=200, batch_size=16,
                         evaluate_every=20, **_NETWORK),
}  # fmt: skip
"""What a data set runs with unless told otherwise: Section IV of the paper, where it
says so (it gives no batch size for MNIST). The small digits take a larger share."""

DataDir = Annotated[Path | None, typer.Option(help="where the data files are")]


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
    downlink: Annotated[
        list[str] | None,
        typer.Option(
            help="codec of the model's steps, repeat for several; none: dense"
        ),
    ] = None,
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
    schedule: Annotated[
        str, typer.Option(help="η by round: constant | cosine | decay:0.9")
    ] = "constant",
    max_delay: Annotated[int | None, typer.Option(min=1, help="D")] = None,
    d_max: Annotated[int, typer.Option(min=1)] = 10,
    c: Annotated[
        float | None, typer.Option(help="in units of 1/η²; none: 1, of vr 1/8")
    ] = None,
    top_k: Annotated[
        str | None,
        typer.Option(
            help=f"{SPARSE}: share (below 1) or number of coordinates that a device "
            "sends; several, as 0.01,0.02, are cycled over devices; none: 0.01"
        ),
    ] = None,
    batch_growth: Annotated[
        float | None, typer.Option(help=f"{SPARSE}: ρ of b = ρ^t b0; none: 1")
    ] = None,
    initial_batch: Annotated[
        int | None, typer.Option(help=f"{SPARSE}: b0; none: the batch size")
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="loss; none: 1.02 x dense sgd's final loss")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    seeds: Annotated[
        int, typer.Option(min=1, help="so many runs, with seeds SEED, SEED + 1, ...")
    ] = 1,
    data_dir: DataDir = None,
    out: Annotated[Path, typer.Option()] = Path("results/compare"),
) -> None:
    """Run methods side by side; print a table, write CSV, JSON and plots.

    What is not given is what the paper has for the data set. Ctrl-C keeps what is
    finished.
    """
    with clear_errors():
        chosen = _methods(methods, dataset)
        sparse = {"top_k": top_k and _top_k(top_k), "batch_growth": batch_growth}
        sparse["initial_batch"] = initial_batch
        _only_sparse(chosen, sparse)
        if batch_size is not None or batch_fraction is not None:
            batch = {"batch_size": batch_size, "batch_fraction": batch_fraction}
        else:
            batch = {}
        given = {
            **sparse,
            "workers": workers,
            "partition": partition,
            "iterations": rounds,
            "evaluate_every": eval_every,
            "learning_rate": learning_rate,
            "max_delay": max_delay,
        }
        base = Run(**{
            **vars(_defaults(dataset)), **batch, "d_max": d_max, "c": c, "seed": seed,
            "local_steps": local_steps, "schedule": schedule, "memory": memory,
            "method": "sgd",
            **{name: value for name, value in given.items() if value is not None},
        })  # fmt: skip
        downlinks = downlink or ["dense"]
        runs = plan(base, chosen, codec or ["dense"], seeds, downlinks)
        _compare(runs, target, data_dir, out)


def _compare(
    runs: Sequence[Run], target: float | None, data_dir: Path | None, out: Path
) -> None:
    task = task_of(runs[0], data_dir)
    for run in runs:
        if run.seed == runs[0].seed:
            check(run, task)
    make_folder(out)
    for name, value in task.notes.items():
        Console().print(f"{name.replace('_', ' ')}: {value}", style="dim")
    with _progress(runs) as advance:
        found = compare(runs, lambda run: task_of(run, data_dir), target, advance)
    write(found, out)
    plots = plot_comparison(found.history, found.summary, out)
    _print(comparison_table(found.summary))
    names = ", ".join(p.name for p in plots)
    typer.echo(f"written to {out}: history.csv, summary.json, {names}")
    if found.stopped:
        finished = len(found.summary["runs"])
        typer.echo(f"stopped: {finished} of {len(runs)} runs were finished", err=True)
        raise typer.Exit(130)


def codecs_command(
    dataset: Annotated[str, typer.Option(help=" | ".join(NAMES))] = "digits",
    codec: Annotated[
        list[str] | None, typer.Option(help="repeat for several; none: all")
    ] = None,
    methods: Annotated[
        str, typer.Option(help="rules; dense sgd runs in any case")
    ] = ",".join(codecs.METHODS),
    partition: Annotated[
        str, typer.Option(help="iid | by-label | dirichlet:A")
    ] = "by-label",
    rounds: Annotated[int | None, typer.Option(min=1, help="K")] = None,
    factor: Annotated[
        float, typer.Option(help="target: this x dense sgd's final loss")
    ] = TARGET_FACTOR,
    learning_rate: Annotated[float, typer.Option(help="η")] = 0.1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    data_dir: DataDir = None,
    out: Annotated[Path, typer.Option()] = Path("results/codecs"),
) -> None:
    """Run SGD, WK2, PSE and VR with every codec in every memory, and rank them."""
    if dataset not in NAMES:
        raise typer.BadParameter(f"{dataset!r}: choose one of {', '.join(NAMES)}")
    chosen = dict.fromkeys(["dense", *(codec or codecs.CODECS)])
    with clear_errors():
        defaults = vars(_defaults(dataset))
        base = Run(**{
            **defaults, "partition": partition, "learning_rate": learning_rate,
            "iterations": rounds or defaults["iterations"], "seed": seed,
        })  # fmt: skip
        runs = codecs.combinations(base, list(chosen), _methods(methods, dataset))
        task = task_of(base, data_dir)
        make_folder(out)
        with _progress(runs) as advance:
            found = codecs.study(runs, task, factor, advance)
    write_summary(found.summary, out)
    plot_codecs(found.history, found.summary, out / "codecs.png")
    _print(codecs.best_table(found.summary))
    typer.echo(f"written to {out}: summary.json, codecs.png")


def _print(shown: RenderableType) -> None:
    Console(width=max(Console().width, WIDTH)).print(shown)


@contextmanager
def _progress(runs: Sequence[Run]) -> Iterator[Callable[[], None]]:
    """Show a bar of all rounds; yield what moves it on by one."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        transient=True,
    ) as bar:
        handle = bar.add_task(
            f"{runs[0].dataset}, rounds of all runs", total=sum(r.rounds for r in runs)
        )
        yield lambda: bar.advance(handle)


def _defaults(dataset: str) -> Run:
    if dataset not in DEFAULTS:
        raise ValueError(f"{dataset!r}: choose one of {', '.join(DEFAULTS)}")
    return DEFAULTS[dataset]


def _methods(text: str | None, dataset: str) -> list[str]:
    """Return the methods; all, but PS where L_m is unknown, if none are given."""
    network = dataset in NETWORK_NAMES
    if text is None:
        text = METHODS.replace("ps,", "") if network else METHODS
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if network and "ps" in names:
        raise ValueError(NO_SMOOTHNESS)
    return names


def _top_k(text: str) -> tuple[int | float, ...]:
    """Read ``--top-k``: numbers between commas, below 1 shares, from 1 on k itself.

    Examples
    --------
    >>> _top_k("0.01, 20")
    (0.01, 20)
    """
    return tuple(_share(part.strip()) for part in text.split(","))


def _share(text: str) -> int | float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (isfinite(value) and value > 0 and (value < 1 or value.is_integer())):
        raise ValueError(
            f"--top-k: {text!r} is neither a share in (0, 1) nor an integer k >= 1"
        )
    return value if value < 1 else int(value)


def _only_sparse(methods: Sequence[str], options: dict[str, Any]) -> None:
    """Refuse options of sparse local SGD where it does not run."""
    for name, value in options.items():
        if value is not None and SPARSE not in methods:
            raise ValueError(
                f"--{name.replace('_', '-')} is for {SPARSE} alone: add it to "
                "--methods, or leave the option out"
            )
