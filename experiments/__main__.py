"""``python -m experiments``: the commands."""

import typer

from . import benchmarks
from .commands import codecs_command, compare_command
from .dropin.measure import dropin_command
from .lora import lora_command
from .promise.command import promise_command
from .reproduce.command import CHOICES, reproduce_command

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command("compare")(compare_command)
app.command("codecs")(codecs_command)
app.command("reproduce", epilog=CHOICES)(reproduce_command)
app.command("lora")(lora_command)
app.command("promise")(promise_command)
app.command("dropin")(dropin_command)
app.add_typer(benchmarks.app, name="benchmarks")


@app.callback()
def main() -> None:
    """Experiments of lasg-flwr."""


if __name__ == "__main__":
    app()
