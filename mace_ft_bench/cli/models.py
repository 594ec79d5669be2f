"""``mfb models``: what can be served; ``mfb models convert``: pickles to safetensors."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mace_ft_bench.cli.console import console, print_json
from mace_ft_bench.errors import CheckpointError
from mace_ft_bench.zoo.registry import list_models

app = typer.Typer(help="List the models, or convert one.", invoke_without_command=True)


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context, *, json: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False
) -> None:
    """List the models that get_calculator serves."""
    if context.invoked_subcommand is not None:
        return
    cards = list_models()
    if json:
        print_json([asdict(card) for card in cards])
        return
    table = Table("name", "elements", "labels", "licence", "description")
    for card in cards:
        elements = " ".join(card.elements) if len(card.elements) <= 8 else f"{len(card.elements)} elements"  # noqa: PLR2004 - what fits
        table.add_row(*map(escape, (card.name, elements, card.functional, card.licence, card.description)))
    console().print(table)


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(help="A .model or .safetensors file.", exists=True, dir_okay=False)],
    target: Annotated[Path, typer.Argument(help="The file to write, of the other kind.")],
    *,
    trust: Annotated[bool, typer.Option("--trust", help="Allow unpickling, which runs code in SOURCE.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace TARGET if it exists.")] = False,
) -> None:
    """Convert MACE weights between .model (a pickle) and .safetensors (data only)."""
    from mace_ft_bench.zoo import checkpoint  # noqa: PLC0415 - imports torch and mace

    if target.exists() and not force:
        raise CheckpointError(f"{target} exists.", fix="pass --force to replace it.")
    if not target.parent.is_dir():
        raise CheckpointError(f"The folder {target.parent} does not exist.", fix="make it, or correct the path.")
    kinds = (source.suffix, target.suffix)
    if kinds == (".model", ".safetensors"):
        checkpoint.save_checkpoint(checkpoint.load_mace_model(source, trust=trust), target)
    elif kinds == (".safetensors", ".model"):
        checkpoint.save_mace_model(checkpoint.load_checkpoint(source), target)
    else:
        raise CheckpointError(
            f"Cannot convert {source.suffix} to {target.suffix}.", fix="convert .model to .safetensors, or back."
        )
    console().print(f"wrote {target}", soft_wrap=True, markup=False)
