"""``mfb models``: what can be served; fetch, install, add, remove, convert and cut models."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mace_ft_bench.cli.console import console, print_json
from mace_ft_bench.errors import CheckpointError
from mace_ft_bench.zoo.registry import find_model, list_models, whereabouts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_ft_bench.zoo.card import ModelCard

app = typer.Typer(help="List, fetch, install, add, remove, convert or cut models.", invoke_without_command=True)

Trust = Annotated[bool, typer.Option("--trust", help="Allow unpickling a .model file, which runs code in it.")]
_SHORT_LIST = 8
"""Elements that fit into a table."""


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context, *, json: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False
) -> None:
    """List the models that get_calculator serves."""
    if context.invoked_subcommand is not None:
        return
    cards = list_models()
    if json:
        print_json([asdict(card) | {"weights": whereabouts(card)} for card in cards])
        return
    table = Table("name", "weights", "elements", "labels", "licence", "description")
    for card in cards:
        cells = (card.name, whereabouts(card), _elements(card.elements), card.functional, card.licence)
        table.add_row(*map(escape, (*cells, card.description)))
    console().print(table)


def _elements(symbols: Sequence[str]) -> str:
    if not symbols:
        return "see weights"
    return " ".join(symbols) if len(symbols) <= _SHORT_LIST else f"{len(symbols)} elements"


@app.command("fetch")
def fetch(
    names: Annotated[list[str], typer.Argument(help="Foundation models.")],
    *,
    trust: Trust = False,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the terms of a model under an academic licence.")
    ] = False,
) -> None:
    """Download foundation models and convert them to data, once."""
    from mace_ft_bench.zoo.weights import weights_path  # noqa: PLC0415 - beside its use

    for card in [find_model(name) for name in names]:
        if not card.is_mace:
            raise CheckpointError(f"{card.name} has no weights of its own to fetch.", fix=_remedy(card))
        if card.kind == "foundation" and not card.file:
            console().print(f"{card.name} ({card.licence}): {card.url}", soft_wrap=True, markup=False)
        path = weights_path(card, trust=trust, accept_licence=accept_licence)
        console().print(f"{card.name}: {path}", soft_wrap=True, markup=False)


def _remedy(card: ModelCard) -> str:
    return f"run `mfb models install {card.name}`." if card.kind == "isolated" else "install its package."


@app.command("install")
def install(
    name: Annotated[str, typer.Argument(help="A model that runs in a Python environment of its own.")],
    *,
    python: Annotated[str, typer.Option(help="Interpreter to make the environment with.")] = sys.executable,
    environment: Annotated[
        Path | None, typer.Option(help="Folder of an environment that has the packages; nothing is installed into it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Start over.")] = False,
) -> None:
    """Make the environment of a model whose packages cannot share ours, and prove that it works there."""
    from mace_ft_bench.zoo import environments  # noqa: PLC0415 - beside its use

    card = find_model(name)
    console().print(f"{name} ({card.licence}): {_pinned(card)}", soft_wrap=True, markup=False)
    found = environments.install(card, python=python, environment=environment, force=force)
    console().print(f'{name} works with {found.python}\nuse it: get_calculator("{name}")', soft_wrap=True, markup=False)


def _pinned(card: ModelCard) -> str:
    return ", ".join(card.environment.requirements) if card.environment else "no environment of its own"


@app.command("add")
def add(
    source: Annotated[
        Path, typer.Argument(help="A .model or .safetensors file, or a card (.toml).", exists=True, dir_okay=False)
    ],
    *,
    name: Annotated[str, typer.Option(help="Name to call it by.")] = "",
    functional: Annotated[str, typer.Option(help='Level of theory of its labels, e.g. "PBE (VASP)".')] = "",
    dispersion: Annotated[
        str, typer.Option(help="Whether the labels hold dispersion: none, included, or unknown (no D3 then).")
    ] = "",
    licence: Annotated[str, typer.Option(help="SPDX identifier of its licence.")] = "",
    description: Annotated[str, typer.Option(help="One line for tables.")] = "",
    citation: Annotated[str, typer.Option(help="How to cite it.")] = "",
    trust: Trust = False,
    force: Annotated[bool, typer.Option("--force", help="Replace your model of that name.")] = False,
) -> None:
    """Add a model of yours; elements and heads are read from its weights."""
    from mace_ft_bench.zoo.add import add_model  # noqa: PLC0415 - beside its use

    fields = {"name": name, "functional": functional, "dispersion": dispersion, "licence": licence}
    fields |= {"description": description, "citation": citation}
    given = {field: value for field, value in fields.items() if value}
    card = add_model(source, given, trust=trust, replace=force)
    use = f'use it: get_calculator("{card.name}")' if card.is_mace else f"make it: mfb models install {card.name}"
    console().print(f"added {card.path}\n{use}", soft_wrap=True, markup=False)


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="A model that you added.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a model that you added."""
    from mace_ft_bench.zoo.add import removable, remove_model  # noqa: PLC0415 - beside its use

    folder = removable(name)
    if not yes:
        typer.confirm(f"Remove {folder}?", abort=True)
    console().print(f"removed {remove_model(name)}", soft_wrap=True, markup=False)


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(help="A .model or .safetensors file.", exists=True, dir_okay=False)],
    target: Annotated[Path, typer.Argument(help="The file to write, of the other kind.")],
    *,
    trust: Trust = False,
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


@app.command("export")
def export(
    model: Annotated[str, typer.Argument(help="Name of a MACE model, or a .safetensors or .model file.")],
    *,
    kind: Annotated[str, typer.Option("--format", help="mace (a pickle) or torchscript.")],
    out: Annotated[Path, typer.Option(help="The file to write; must not exist.")],
    dtype: Annotated[str | None, typer.Option(help="float32 or float64 (default: as the weights are).")] = None,
    trust: Trust = False,
) -> None:
    """Write a model for other programs: mace's own tools and calculator, or TorchScript."""
    from mace_ft_bench.zoo.export_formats import export_model  # noqa: PLC0415 - imports torch and mace

    written = export_model(model, out, kind=kind, dtype=dtype, trust=trust)
    console().print(f"wrote {written}", soft_wrap=True, markup=False)


@app.command("cut")
def cut(
    model: Annotated[str, typer.Argument(help="Name of a MACE model, or a .safetensors or .model file.")],
    *,
    elements: Annotated[str, typer.Option(help="Chemical symbols to keep, for example Li,Ge,P,S.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write; must not exist.")],
    head: Annotated[str, typer.Option(help="Head to keep, where there are several.")] = "",
    trust: Trust = False,
) -> None:
    """Write a model for fewer elements, with the same energies and forces."""
    from mace_ft_bench.finetune.cut_elements import cut_elements  # noqa: PLC0415 - imports torch and mace

    symbols = [symbol.strip() for symbol in elements.split(",")]
    written = cut_elements(model, symbols, out, head=head, trust=trust)
    console().print(f"wrote {written}", soft_wrap=True, markup=False)
