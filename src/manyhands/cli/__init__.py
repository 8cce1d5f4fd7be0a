"""The command line: parse, call, print."""

from __future__ import annotations

import sys

import typer

from manyhands import __version__
from manyhands.cli import (
    answer,
    check,
    code,
    doctor,
    driving,
    lab,
    models,
    otel,
    parse,
    runs,
    tasks,
    ui,
    watch,
)
from manyhands.cli.printing import complain
from manyhands.errors import ManyhandsError

app = typer.Typer(
    name="manyhands",
    help="Durable teams of agents on open-weight models.\n\n"
    "Every run is journaled: kill it, and `manyhands resume RUN` goes on where it was.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
)
runs.add_commands(app)
driving.add_commands(app)
app.command("models")(models.models)
app.command("doctor")(doctor.doctor)
app.command("parse")(parse.parse_text)
app.command("check")(check.check)
app.command("answer")(answer.answer)
app.command("code")(code.code)
app.command("ui")(ui.ui)
app.command("watch")(watch.watch)
app.command("otel")(otel.otel)
app.add_typer(answer.memory, name="memory")
app.add_typer(lab.app, name="lab")
app.add_typer(tasks.app, name="tasks")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"manyhands {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_version, help="Print the version."),
) -> None:
    """Options of every command."""


def main() -> None:
    """Entry point: an expected error prints two lines and exits with its own code."""
    try:
        app()
    except ManyhandsError as error:
        complain(error)
        sys.exit(error.exit_code)
