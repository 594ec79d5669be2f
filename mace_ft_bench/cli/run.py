"""``mfb run``: cases on models; writes the leaderboard at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mace_ft_bench.cli.data import Mirror
from mace_ft_bench.cli.report import build_report
from mace_ft_bench.cli.suite import RunMode, Suite, run_suite, split_names
from mace_ft_bench.results.case import mode_named

_EXIT_FAILED = 1


def run(
    models: Annotated[str, typer.Option(help="Names or paths, separated by commas.")] = "mo-ft,chgnet",
    cases: Annotated[str, typer.Option(help='Shell patterns, separated by commas, e.g. "molybdenum/*".')] = "*",
    out: Annotated[Path, typer.Option(help="Results folder; an earlier run in it is continued.")] = Path("results"),
    *,
    mode: RunMode = "standard",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    head: Annotated[str | None, typer.Option(help="Head of a model with several.")] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Allow unpickling .model files, which runs their code.")
    ] = False,
    mirror: Mirror = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Download datasets that are missing.")] = False,
) -> None:
    """Run benchmark cases on models and write the leaderboard; exits with 1 if a case ended in an error."""
    from mace_ft_bench.results.tasks import identity  # noqa: PLC0415 - imports ase.io

    names = split_names(models, "--models")
    suite = Suite(
        models=names,
        cases=split_names(cases, "--cases"),
        out=out,
        mode=mode_named(mode),
        device=device,
        heads=dict.fromkeys(names, head),
        trust=trust,
        mirror=mirror,
        fetch=fetch,
    )
    done = run_suite(suite)
    chosen = {task.model.name: identity(task) for task in done.tasks}
    build_report(out, mode=suite.mode, chosen=chosen, only_if_changed=True)
    if done.failed:
        raise typer.Exit(_EXIT_FAILED)
