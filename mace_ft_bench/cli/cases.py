"""``mfb cases``: what is benchmarked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mace_ft_bench.cli.console import console, print_json
from mace_ft_bench.results.case import MODES, select_cases


def cases(
    patterns: Annotated[list[str] | None, typer.Argument(help='Shell patterns, for example "molybdenum/*".')] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False,
) -> None:
    """List the benchmark cases."""
    chosen = select_cases(patterns or ["*"])
    if json:
        print_json([asdict(case) for case in chosen])
        return
    table = Table()
    table.add_column("case", no_wrap=True)
    for header in ("property", "scored", "reference", "modes", "title"):
        table.add_column(header)
    for case in chosen:
        reference = case.scored_reference
        cells = (
            case.id,
            case.property,
            ", ".join(f"{metric.label} ({metric.tolerance:g} {metric.unit})" for metric in case.metrics.values()),
            reference.label if reference else "",
            "" if case.runs_in == MODES else ", ".join(case.runs_in),
            case.title,
        )
        table.add_row(*map(escape, cells))
    console().print(table)
