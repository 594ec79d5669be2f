"""``mfb validate``: a finished run, or any model, beside its parent, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mace_ft_bench.cli.console import console
from mace_ft_bench.cli.data import Mirror

if TYPE_CHECKING:
    from collections.abc import Mapping


def validate(
    run_or_model: Annotated[
        str, typer.Argument(help="Run folder of `mfb finetune`, or name or path of a model.", metavar="RUN_OR_MODEL")
    ],
    *,
    test: Annotated[
        list[str] | None, typer.Option(help="Frames the run has not seen: <dataset>:<split>, or a file.")
    ] = None,
    forgetting: Annotated[
        list[str] | None, typer.Option(help="Frames of the parent's domain: <dataset>:<split>, or a file.")
    ] = None,
    parent: Annotated[
        str | None, typer.Option(help='Model to compare with, or "none" (default: the parent of the run or card).')
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to (default: RUN/validation, or validation-MODEL).")
    ] = None,
    mirror: Mirror = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of others in --out.")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Allow a parent that is a pickled .model file.")] = False,
) -> None:
    """Compare a model and its parent with labels; writes validation.html, .md and .json."""
    from mace_ft_bench.finetune import validate as validation  # noqa: PLC0415 - imports torch and mace
    from mace_ft_bench.leaderboard import validation_page  # noqa: PLC0415 - imports matplotlib

    folder = out or _folder_beside(run_or_model)
    validation_page.check_target(folder, validation.MADE_BY, overwrite=overwrite)
    options = validation.Options(
        tests=tuple(test or ()),
        forgetting=tuple(forgetting or ()),
        parent=parent,
        mirror=mirror,
        device=device,
        trust=trust,
    )
    with console().status("loading") as status:
        found = validation.validate(run_or_model, options, on_step=lambda step: status.update(escape(step)))
        status.update("drawing")
        page = validation_page.write_validation(found.report, found.samples, folder, overwrite=overwrite)
    _print(found.report, page)


def _folder_beside(run_or_model: str) -> Path:
    path = Path(run_or_model)
    return path / "validation" if path.is_dir() else Path(f"validation-{path.stem if path.is_file() else path.name}")


def _print(report: Mapping[str, Any], page: Path) -> None:
    from mace_ft_bench.leaderboard import validation_wording as words  # noqa: PLC0415 - beside its use
    from mace_ft_bench.leaderboard.validation_page import verdict  # noqa: PLC0415 - beside its use

    table = Table("frames", "", "RMSE", "parent", "change", "95 % interval", title=escape(report["name"]))
    for entry in [*report["splits"], *(item for item in report["forgetting"] if item["errors"])]:
        for index, row in enumerate(words.quantity_rows(entry)):
            name = f"{entry['name']} ({entry['frames']}, {entry['role']})" if index == 0 else ""
            table.add_row(escape(name), escape(row.label), row.mine[0], row.theirs[0], row.change, row.interval)
    console().print(table)
    said = verdict(report)
    console().print(f"[bold]{escape(said['headline'])}[/]", soft_wrap=True, highlight=False)
    for text in [*said["sentences"], said["gap"], *(f"Warning: {text}" for text in said["warnings"])]:
        console().print(text, soft_wrap=True, markup=False, highlight=False)
    console().print(f"page: {page.resolve()}", soft_wrap=True, markup=False, highlight=False)
