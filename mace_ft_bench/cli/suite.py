"""Cases on models with a progress display, resumable: what ``mfb run`` and ``mfb gate`` share."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mace_ft_bench.cli.console import console
from mace_ft_bench.cli.signals import EXIT_INTERRUPTED
from mace_ft_bench.errors import DispersionError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mace_ft_bench.results.case import Mode
    from mace_ft_bench.results.record import Record
    from mace_ft_bench.results.runner import Calculators
    from mace_ft_bench.results.store import RecordStore
    from mace_ft_bench.results.tasks import Task


RunMode = Annotated[str, typer.Option(help="quick, standard or full: which cases run, and how long they take.")]


@dataclass(frozen=True)
class Suite:
    """What is run, and how."""

    models: tuple[str, ...]
    """Names or paths."""
    cases: tuple[str, ...]
    """Shell patterns."""
    out: Path
    mode: Mode = "standard"
    device: str = "auto"
    heads: Mapping[str, str | None] = field(default_factory=dict)
    """Head by model, where one is chosen."""
    trust: bool = False
    mirror: Path | None = None
    fetch: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of it."""

    tasks: list[Task]
    """All, those done earlier included; by model in the order asked for, then by case."""
    records: list[Record]
    """The latest record of every task."""
    failed: bool
    """Whether a case ended in an error now."""


def split_names(text: str, option: str) -> tuple[str, ...]:
    """Return the names between commas.

    Raises
    ------
    UnknownNameError
        If there is none.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UnknownNameError(f"{option} is empty.", fix="give at least one name.")
    return names


def run_suite(suite: Suite, *, quiet: bool = False) -> Outcome:
    """Run what the results folder does not have yet; an interruption says how to go on and exits.

    Parameters
    ----------
    suite
        What to run.
    quiet
        Show nothing on standard output.
    """
    from mace_ft_bench.results import runner, store  # noqa: PLC0415 - imports torch
    from mace_ft_bench.results.case import select_cases  # noqa: PLC0415 - beside its use
    from mace_ft_bench.results.model_spec import model_spec  # noqa: PLC0415 - as above
    from mace_ft_bench.results.tasks import RunOptions, pending, plan  # noqa: PLC0415 - as above

    screen = Console(quiet=True) if quiet else console()
    records = store.RecordStore(suite.out)
    specs = [model_spec(name, head=suite.heads.get(name), trust=suite.trust) for name in suite.models]
    options = RunOptions(device=suite.device, mirror=suite.mirror, download=suite.fetch)
    tasks = plan(specs, select_cases(list(suite.cases), mode=suite.mode), options)
    todo = pending(tasks, records)
    calculators = runner.Calculators()
    for task in todo:
        with contextlib.suppress(DispersionError):  # the record of the case will say so
            calculators(task)  # what cannot be built ends the run here, before any work
    records.check_writable()
    screen.print(f"{len(tasks)} cases, {len(tasks) - len(todo)} already done, {len(todo)} to run")
    try:
        made = _run(todo, records, calculators, screen)
    except KeyboardInterrupt:
        screen.print("Interrupted. Every finished case is stored; the same command continues.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    latest = {(record.key, record.model, record.case): record for record in records.all()}
    own = [latest[task.key, task.model.name, task.case.id] for task in tasks]
    return Outcome(tasks, own, any(record.status == "error" for record in made))


def _run(todo: list[Task], records: RecordStore, calculators: Calculators, screen: Console) -> list[Record]:
    from mace_ft_bench.results import runner  # noqa: PLC0415 - imports torch

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen) as progress:
        bar = progress.add_task("", total=len(todo))

        def start(task: Task) -> None:
            progress.update(bar, description=escape(f"{task.model.name}: {task.case.id}"))

        def done(record: Record) -> None:
            progress.advance(bar)
            colour = "green" if record.status == "ok" else "yellow"
            errors = [f"{name} {value:+.3g}" for name, value in record.errors.items()]
            ended = "  ".join([*errors, *filter(None, [record.message])])
            progress.print(
                f"[{colour}]{record.status:12}[/] "
                + escape(f"{record.model:10} {record.case:28} {record.wall_s:6.1f} s  {ended}"),
                highlight=False,
                soft_wrap=True,
            )

        return runner.run(todo, records, provide=calculators, on_start=start, on_record=done)
