"""``mfb run``: cases on models, with a progress display, resumable; writes the leaderboard at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mace_ft_bench.cli.console import console
from mace_ft_bench.cli.data import Mirror
from mace_ft_bench.cli.report import build_report
from mace_ft_bench.errors import UnknownNameError

if TYPE_CHECKING:
    from mace_ft_bench.results.record import Record
    from mace_ft_bench.results.runner import Calculators, Task
    from mace_ft_bench.results.store import RecordStore

_EXIT_FAILED = 1
_EXIT_INTERRUPTED = 130


def run(
    models: Annotated[str, typer.Option(help="Names or paths, separated by commas.")] = "mo-ft,chgnet",
    cases: Annotated[str, typer.Option(help='Shell patterns, separated by commas, e.g. "molybdenum/*".')] = "*",
    out: Annotated[Path, typer.Option(help="Results folder; an earlier run in it is continued.")] = Path("results"),
    *,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    head: Annotated[str | None, typer.Option(help="Head of a model with several.")] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Allow unpickling .model files, which runs their code.")
    ] = False,
    mirror: Mirror = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download datasets that are missing.")] = False,
) -> None:
    """Run benchmark cases on models and write the leaderboard; exits with 1 if a case ended in an error."""
    from mace_ft_bench.results import runner, selection, store  # noqa: PLC0415 - imports torch
    from mace_ft_bench.results.case import select_cases  # noqa: PLC0415 - beside its use

    records = store.RecordStore(out)
    specs = [runner.model_spec(name, head=head, trust=trust) for name in _split(models, "--models")]
    options = runner.RunOptions(device=device, mirror=mirror, download=fetch)
    tasks = runner.plan(specs, select_cases(_split(cases, "--cases")), options)
    todo = runner.pending(tasks, records)
    calculators = runner.Calculators()
    for task in todo:
        calculators(task)  # what cannot be built ends the run here, before any work
    records.check_writable()
    console().print(f"{len(tasks)} cases, {len(tasks) - len(todo)} already done, {len(todo)} to run")
    try:
        failed = _run(todo, records, calculators)
    except KeyboardInterrupt:
        console().print("Interrupted. Every finished case is stored; the same command continues.")
        raise typer.Exit(_EXIT_INTERRUPTED) from None
    build_report(out, {task.model.name: selection.identity_of(runner.blank_record(task)) for task in tasks})
    if failed:
        raise typer.Exit(_EXIT_FAILED)


def _run(todo: list[Task], records: RecordStore, calculators: Calculators) -> bool:
    """Run the tasks with a display; whether any of them ended in an error."""
    from mace_ft_bench.results import runner  # noqa: PLC0415 - imports torch

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console()) as progress:
        bar = progress.add_task("", total=len(todo))

        def start(task: Task) -> None:
            progress.update(bar, description=escape(f"{task.model.name}: {task.case.id}"))

        def done(record: Record) -> None:
            progress.advance(bar)
            colour = "green" if record.status == "ok" else "yellow"
            errors = "  ".join(f"{name} {value:+.3g}" for name, value in record.errors.items())
            progress.print(
                f"[{colour}]{record.status:12}[/] "
                + escape(f"{record.model:10} {record.case:28} {record.wall_s:6.1f} s  {errors or record.message}"),
                highlight=False,
                soft_wrap=True,
            )

        made = runner.run(todo, records, provide=calculators, on_start=start, on_record=done)
    return any(record.status == "error" for record in made)


def _split(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UnknownNameError(f"{option} is empty.", fix="give at least one name.")
    return names
