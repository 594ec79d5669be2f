"""``mfb finetune``: a recipe in, a validated model out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mace_ft_bench.cli.console import console
from mace_ft_bench.cli.data import Mirror
from mace_ft_bench.cli.default_command import group_with_default
from mace_ft_bench.cli.signals import ending_on_sigterm
from mace_ft_bench.errors import DataError

if TYPE_CHECKING:
    from mace_ft_bench.finetune.export import Export
    from mace_ft_bench.finetune.objective import EpochErrors
    from mace_ft_bench.finetune.train import Frames


app = typer.Typer(
    help="Train by a recipe, or write one: `mfb finetune RECIPE`, `mfb finetune init`.",
    cls=group_with_default("train"),
    no_args_is_help=True,
)


@app.command("train")
def finetune(
    recipe: Annotated[Path, typer.Argument(help="A recipe (TOML).", exists=True, dir_okay=False)],
    *,
    out: Annotated[Path | None, typer.Option(help="Run folder (default: runs/<name>).")] = None,
    mirror: Mirror = None,
    trust: Annotated[bool, typer.Option("--trust", help="Allow a parent that is a pickled .model file.")] = False,
) -> None:
    """Train by a recipe (`mfb finetune RECIPE`), or resume; writes <name>.safetensors and a draft model card."""
    from mace_ft_bench.finetune import config, export, train  # noqa: PLC0415 - imports torch and mace
    from mace_ft_bench.finetune.advice import advise  # noqa: PLC0415 - as above
    from mace_ft_bench.finetune.frames_summary import summarise_frames  # noqa: PLC0415 - as above

    loaded = config.load_recipe(recipe)
    folder = out or Path("runs") / loaded.name
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console()
    )
    with ending_on_sigterm(), progress:
        task = progress.add_task("epoch", total=loaded.optimiser.max_epochs)
        features = progress.add_task("features", visible=False)

        def show(errors: EpochErrors) -> None:
            progress.update(task, completed=errors.epoch + 1)
            epoch = "start" if errors.epoch < 0 else f"{errors.epoch:5d}"
            progress.print(
                f"epoch {epoch}  E {_number(errors.energy_rmse_mev_per_atom, 2)} meV/atom  "
                f"F {_number(errors.force_rmse_mev_per_a, 1)} meV/Å  "
                f"S {_number(errors.stress_rmse_mev_per_a3, 2)} meV/Å³"
            )

        def warn(frames: Frames) -> None:
            for advice in advise(loaded, summarise_frames(frames.training)):
                progress.print(f"[yellow]warning:[/] {escape(advice)}", soft_wrap=True, highlight=False)

        def count(done: int, total: int) -> None:
            progress.update(features, completed=done, total=total, visible=done < total)

        reports: dict[str, Any] = {"on_errors": show, "on_frames": warn, "on_kept": count}
        trained = train.train(loaded, folder, mirror=mirror, trust=trust, **reports)
        progress.update(task, completed=loaded.optimiser.max_epochs)
    _print_export(export.export(loaded, trained, folder))


@app.command("init")
def init(
    sources: Annotated[list[str], typer.Argument(help="Extended XYZ files, <dataset> or <dataset>:<split>.")],
    *,
    parent: Annotated[str, typer.Option(help="Name or file of the model to start from.")],
    out: Annotated[Path, typer.Option(help="Recipe to write (TOML); its name is that of the model.")],
    parent_head: Annotated[str, typer.Option(help="Head of the parent, where it has several.")] = "",
    mirror: Mirror = None,
    trust: Annotated[bool, typer.Option("--trust", help="Allow a parent that is a pickled .model file.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the recipe if it exists.")] = False,
) -> None:
    """Look at frames, and write a commented recipe to start from."""
    from mace_ft_bench.finetune.starting_recipe import write_starting_recipe  # noqa: PLC0415 - imports torch and mace

    if out.suffix != ".toml":
        raise DataError(f"{out} would hold a recipe.", fix="name it *.toml.")
    if not out.parent.is_dir():
        raise DataError(f"The folder {out.parent} does not exist.", fix="make it.")
    if out.exists() and not overwrite:
        raise DataError(f"{out} exists.", fix="choose another name, or pass --overwrite.")
    advices = write_starting_recipe(out, sources, (parent, parent_head), mirror=mirror, trust=trust)
    for advice in advices:
        console().print(f"[yellow]warning:[/] {escape(advice)}", soft_wrap=True, highlight=False)
    console().print(f"{out}: read it, then `mfb finetune {out}`", soft_wrap=True, markup=False, highlight=False)


def _print_export(exported: Export) -> None:
    table = Table("stage", "E [meV/atom]", "F [meV/Å]", "S [GPa]", "", title="validation RMSE")
    for stage in exported.stages:
        table.add_row(
            escape(stage.stage),
            _number(stage.energy_rmse_mev_per_atom, 2),
            _number(stage.force_rmse_mev_per_a, 1),
            _number(stage.stress_rmse_gpa, 3),
            "chosen" if stage is exported.chosen else "",
        )
    console().print(table)
    if exported.warning:
        console().print(f"[bold red]Warning:[/] {escape(exported.warning)}", soft_wrap=True, highlight=False)
    console().print(f"weights: {exported.weights}\ncard (draft): {exported.card}", soft_wrap=True, markup=False)
    console().print(f'use it: get_calculator("{exported.weights}")', soft_wrap=True, markup=False, highlight=False)


def _number(value: float | None, digits: int) -> str:
    return f"{'–' if value is None else format(value, f'.{digits}f'):>7}"
