"""``mfb study``: strategies, shares of the data and seeds, compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mace_ft_bench.cli.console import console
from mace_ft_bench.cli.data import Mirror
from mace_ft_bench.cli.signals import ending_on_sigterm

if TYPE_CHECKING:
    from collections.abc import Mapping


def study(
    recipe: Annotated[Path, typer.Argument(help="A study (TOML).", exists=True, dir_okay=False)],
    *,
    out: Annotated[Path | None, typer.Option(help="Folder (default: studies/<name>).")] = None,
    mirror: Mirror = None,
    trust: Annotated[bool, typer.Option("--trust", help="Allow parents that are pickled .model files.")] = False,
) -> None:
    """Fine-tune by every variant, share and seed of a study, one record each; run it again to go on.

    Exits with 1 if a run failed.
    """
    from mace_ft_bench.finetune.study import load_study, run_study  # noqa: PLC0415 - imports torch and mace
    from mace_ft_bench.leaderboard import study_page  # noqa: PLC0415 - imports matplotlib

    wanted, base = load_study(recipe)
    folder = out or Path("studies") / wanted.name
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console()
    )
    with ending_on_sigterm(), bar:
        task = bar.add_task("run", total=None)

        def show(record: Mapping[str, Any], number: int, total: int) -> None:
            bar.update(task, completed=number, total=total, description=escape(record["name"]))
            if record["status"] != "ok":
                bar.print(f"[bold red]{escape(record['name'])} failed:[/] {escape(record['message'])}")

        records = run_study(wanted, base, folder, mirror=mirror, trust=trust, on_record=show)
    page = study_page.write_study(records, folder, name=wanted.name, steps=wanted.steps)
    for split in study_page.compared_splits(records):
        table = Table(*map(escape, study_page.TITLES), title=escape(split))
        for row in study_page.table_rows(records, split):
            table.add_row(*map(escape, row))
        console().print(table)
    console().print(f"page: {page.resolve()}", soft_wrap=True, markup=False, highlight=False)
    if any(record["status"] != "ok" for record in records):
        raise typer.Exit(1)
