"""``mfb gate``: whether a model may replace another, for people and for continuous integration."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mace_ft_bench.cli.console import console, print_json
from mace_ft_bench.cli.data import Mirror
from mace_ft_bench.cli.suite import RunMode, Suite, run_suite, split_names
from mace_ft_bench.errors import UnknownNameError
from mace_ft_bench.results.case import mode_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mace_ft_bench.leaderboard.gate import Comparison

_EXIT_WORSE = 1
_COLOURS = {"better": "green", "as good": "green", "worse": "red", "failed": "red", "not compared": "yellow"}


def gate(
    model: Annotated[str, typer.Option(help="Name or path of the model to judge.")],
    parent: Annotated[str, typer.Option(help="Name or path of the model it has to match.")] = "",
    cases: Annotated[str, typer.Option(help='Shell patterns, separated by commas, e.g. "molybdenum/*".')] = "*",
    out: Annotated[Path, typer.Option(help="Results folder; what it holds is not run again.")] = Path("results"),
    *,
    mode: RunMode = "standard",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    head: Annotated[str | None, typer.Option(help="Head of the model, where it has several.")] = None,
    parent_head: Annotated[str | None, typer.Option(help="Head of the parent, where it has several.")] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Allow unpickling .model files, which runs their code.")
    ] = False,
    mirror: Mirror = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download datasets that are missing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Run a model and its parent on the same cases; exits with 1 if the model fails or is worse on any of them."""
    from mace_ft_bench.leaderboard.gate import compare_models, passes  # noqa: PLC0415 - beside its use
    from mace_ft_bench.results.model_spec import model_spec  # noqa: PLC0415 - imports torch

    models = (model, parent or _parent_of(model))
    heads = dict(zip(models, (head, parent_head), strict=True))
    names = [model_spec(name, head=heads[name], trust=trust).name for name in models]
    if names[0] == names[1]:
        raise UnknownNameError(f"{names[0]} is to be compared with itself.", fix="name another model with --parent.")
    suite = Suite(
        models=models,
        cases=split_names(cases, "--cases"),
        out=out,
        mode=mode_named(mode),
        device=device,
        heads=heads,
        trust=trust,
        mirror=mirror,
        fetch=fetch,
    )
    done = run_suite(suite, quiet=json)
    records = {(record.model, record.case): record for record in done.records}
    cases_run = {task.case.id: task.case for task in done.tasks}.values()
    comparisons = compare_models(cases_run, records, model=names[0], parent=names[1])
    passed = passes(comparisons)
    _report(comparisons, names, passed=passed, json=json)
    if not passed:
        raise typer.Exit(_EXIT_WORSE)


def _parent_of(model: str) -> str:
    from mace_ft_bench.calculators.factory import is_path  # noqa: PLC0415 - imports ASE
    from mace_ft_bench.zoo.registry import find_model  # noqa: PLC0415 - beside its use

    found = "" if is_path(model) else find_model(model).parent
    if not found:
        raise UnknownNameError(f"The parent of {model} is not known.", fix="name it with --parent.")
    return found


def _report(comparisons: Sequence[Comparison], names: Sequence[str], *, passed: bool, json: bool) -> None:
    if json:
        print_json({"model": names[0], "parent": names[1], "passed": passed, "cases": list(map(asdict, comparisons))})
    else:
        _show(comparisons, names, passed=passed)


def _show(comparisons: Sequence[Comparison], names: Sequence[str], *, passed: bool) -> None:
    table = Table()
    for header in ("case", *names, ""):
        table.add_column(escape(header), no_wrap=header == "case")
    for item in comparisons:
        scores = ("–" if score is None else f"{score:.3f}" for score in (item.score, item.parent_score))
        words = f"[{_COLOURS[item.outcome]}]{item.outcome}[/]"
        table.add_row(escape(item.case), *scores, f"{words}  {escape(item.reason)}" if item.reason else words)
    console().print(table)
    counts = {name: sum(item.outcome == name for item in comparisons) for name in _COLOURS}
    console().print(", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no scored case")
    console().print("[bold green]passed[/]" if passed else "[bold red]not passed[/]")
