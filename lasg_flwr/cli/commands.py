"""What ``lasg-flwr`` can do; typer comes with Flower."""

from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ..history import read_log
from . import demo as demonstration
from .new import write_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Federated learning that sends an upload only when it is worth its bytes.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lasg-flwr {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before a command."""


@app.command()
def new(folder: Annotated[Path, typer.Argument(help="Made; must not exist.")]) -> None:
    """Write a small Flower app to start from: NumPy only, runs with `flwr run`."""
    try:
        written = write_app(folder)
    except FileExistsError as error:
        raise typer.BadParameter(str(error)) from None
    typer.echo(f"{len(written)} files in {folder}; now:")
    typer.echo(f"  cd {folder} && flwr run . --stream")
    typer.echo("  lasg-flwr plot run.jsonl")


@app.command()
def plot(
    log: Annotated[Path, typer.Argument(help="A strategy's log_file.", exists=True)],
    out: Annotated[Path | None, typer.Option(help="Left out: LOG with .png.")] = None,
) -> None:
    """Draw loss, accuracy, uploads and bytes of a run (extra: plot)."""
    path = log.with_suffix(".png") if out is None else out
    try:
        read_log(log).plot(path)
    except (ValueError, ImportError) as error:
        raise typer.BadParameter(str(error)) from None
    typer.echo(f"drawn: {path}")


@app.command()
def demo(
    rounds: Annotated[int, typer.Option(min=1)] = 200,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Where to draw it.")] = None,
) -> None:
    """Compare settings on made-up data, in this process, in seconds."""
    runs = demonstration.compared(rounds, seed)
    typer.echo(demonstration.table(runs))
    if out is None:
        return
    try:
        demonstration.draw(runs, out)
    except ImportError as error:
        raise typer.BadParameter(str(error)) from None
    typer.echo(f"drawn: {out}")
