"""``mfb data``: list, fetch and prepare datasets; one module per command that does more than that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mace_ft_bench.cli.console import console, print_json
from mace_ft_bench.cli.data import convert, lint, perturb, sample, select, split, subtract
from mace_ft_bench.datasets.card import find_dataset, list_datasets

app = typer.Typer(help="List, fetch and prepare DFT datasets.", no_args_is_help=True)
app.command("convert")(convert.convert)
app.command("sample")(sample.sample)
app.command("subtract-d3")(subtract.subtract_d3)
app.command("select")(select.select)
app.command("perturb")(perturb.perturb)
app.command("lint")(lint.lint)
app.command("split")(split.split)

Mirror = Annotated[Path | None, typer.Option(help="Folder of byte-identical copies (default: $MFB_MIRROR).")]


@app.command("list")
def list_(*, json: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False) -> None:
    """List the dataset cards."""
    from dataclasses import asdict  # noqa: PLC0415 - used here only

    cards = list_datasets()
    if json:
        print_json([asdict(card) for card in cards.values()])
        return
    table = Table("name", "splits", "labels", "licence", "title")
    for card in cards.values():
        cells = (card.name, " ".join(card.splits), card.functional, card.licence, card.title)
        table.add_row(*map(escape, cells))
    console().print(table)


@app.command("fetch")
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Datasets; all when left out.")] = None,
    *,
    mirror: Mirror = None,
) -> None:
    """Fetch datasets from a mirror folder or the network, and check their sha256."""
    from mace_ft_bench.datasets import fetch as fetcher  # noqa: PLC0415 - imports readers

    for card in [find_dataset(name) for name in names] if names else list_datasets().values():
        for path in fetcher.fetch(card, mirror=mirror):
            console().print(f"{card.name}: {path}", soft_wrap=True, markup=False)
