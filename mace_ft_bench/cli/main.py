"""The command line, ``mfb`` or ``mace-ft-bench``: one module per command; parse, call, print, no logic."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.markup import escape

from mace_ft_bench._version import __version__
from mace_ft_bench.cli import (
    cases,
    data,
    distill,
    doctor,
    finetune,
    gate,
    label,
    models,
    report,
    run,
    study,
    timing,
    validate,
)
from mace_ft_bench.cli.console import error_console
from mace_ft_bench.errors import MaceFtBenchError

app = typer.Typer(
    name="mfb",
    help="Fine-tune MACE potentials, serve them through ASE, benchmark them against DFT.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("cases")(cases.cases)
app.command("validate")(validate.validate)
app.command("distill")(distill.distill)
app.command("doctor")(doctor.doctor)
app.command("run")(run.run)
app.command("gate")(gate.gate)
app.command("study")(study.study)
app.command("report")(report.report)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(finetune.app, name="finetune")
app.add_typer(label.app, name="label")
app.add_typer(timing.app, name="timing")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Fine-tune MACE potentials, serve them through ASE, benchmark them against DFT."""


def main() -> None:
    """Run the command line; an error of ours is printed without a traceback and exits with 2."""
    try:
        app()
    except MaceFtBenchError as error:
        error_console().print(f"[bold red]Error:[/] {escape(error.message)}", highlight=False, soft_wrap=True)
        error_console().print(f"[bold]To fix:[/] {escape(error.fix)}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except OSError as error:
        error_console().print(f"[bold red]Error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
