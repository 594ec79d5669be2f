"""``mfb cases``: what is benchmarked."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.padding import Padding

from mace_ft_bench.cli.console import console, print_json
from mace_ft_bench.results.case import MODES, select_cases

if TYPE_CHECKING:
    from mace_ft_bench.results.case import Case


def cases(
    patterns: Annotated[list[str] | None, typer.Argument(help='Shell patterns, for example "molybdenum/*".')] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False,
) -> None:
    """List the benchmark cases: property, scored errors with their tolerances, reference."""
    chosen = select_cases(patterns or ["*"])
    if json:
        print_json([asdict(case) for case in chosen])
        return
    for case in chosen:
        modes = "" if case.runs_in == MODES else f"; in mode {' or '.join(case.runs_in)} only"
        console().print(f"[bold]{escape(case.id)}[/]  {escape(case.title)}", highlight=False)
        console().print(Padding(escape(f"{case.property}{_scored(case)}{modes}"), (0, 0, 0, 4)), highlight=False)


def _scored(case: Case) -> str:
    """Return what is scored, with the error that scores one half, and against what."""
    if not case.metrics:
        return ", shown and not scored"
    parts = (f"{metric.label} ({f'{metric.tolerance:g} {metric.unit}'.strip()})" for metric in case.metrics.values())
    reference = case.scored_reference
    return f": {', '.join(parts)}{f' against {reference.label}' if reference else ''}"
