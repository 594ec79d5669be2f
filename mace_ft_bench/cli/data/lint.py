"""``mfb data lint``: what is wrong with labelled frames, before anything is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mace_ft_bench.cli.console import console, error_console, print_json
from mace_ft_bench.cli.data.files import Json, Overwrite, refuse_existing
from mace_ft_bench.errors import CardError

if TYPE_CHECKING:
    from mace_ft_bench.datasets.lint.finding import Finding
    from mace_ft_bench.datasets.lint.run import Linted

_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


def lint(
    sources: Annotated[list[str], typer.Argument(help="Extended XYZ files, <dataset> or <dataset>:<split>.")],
    *,
    against: Annotated[
        list[str] | None, typer.Option(help="Another split or file that these frames must not repeat.")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Write the safe repairs to --out.")] = False,
    out: Annotated[Path | None, typer.Option(help="Extended XYZ file of the repaired frames.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if there are warnings.")] = False,
    mirror: Annotated[Path | None, typer.Option(help="Folder of byte-identical copies (default: $MFB_MIRROR).")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Look for mistakes in labels and structures: exit 0 if none, 1 for warnings (--strict), 2 for errors."""
    from mace_ft_bench.datasets.lint.run import lint_frames  # noqa: PLC0415 - imports scipy and spglib
    from mace_ft_bench.datasets.lint.sources import read_sources  # noqa: PLC0415 - as above

    if fix != (out is not None):
        raise CardError("--fix and --out belong together.", fix="name the file to write with --out FIXED.xyz.")
    if out is not None:
        refuse_existing(out, overwrite=overwrite, sources=sources)
    frames, names = read_sources(sources, mirror=mirror)
    others, _ = read_sources(against or [], mirror=mirror)
    with error_console().status("reading") as status:
        linted = lint_frames(frames, names, against=others, on_check=lambda step: status.update(f"{step} ..."))
    changes = _repair(linted, out) if out is not None else {}
    if json:
        print_json(_plain(linted, out, changes))
    else:
        _print(linted, out, changes)
    raise typer.Exit(exit_code(linted.findings, strict=strict))


def exit_code(findings: list[Finding], *, strict: bool) -> int:
    """Return 2 for errors, 1 for warnings where they count, else 0."""
    from mace_ft_bench.datasets.lint.finding import worst  # noqa: PLC0415 - beside its use

    return {"error": 2, "warning": int(strict)}.get(worst(findings) or "", 0)


def _repair(linted: Linted, out: Path) -> dict[str, list[int]]:
    from mace_ft_bench.datasets.exact_extxyz import write_exact  # noqa: PLC0415 - imports ASE's formats
    from mace_ft_bench.datasets.lint.fix import repair  # noqa: PLC0415 - beside its use

    frames, changes = repair(linted)
    write_exact(frames, out)
    return changes


def _plain(linted: Linted, out: Path | None, changes: dict[str, list[int]]) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415 - used here only

    findings = [
        asdict(finding) | {"names": [linted.names[index] for index in finding.frames]} for finding in linted.findings
    ]
    return {"frames": len(linted.frames), "findings": findings, "out": out, "changes": changes}


def _print(linted: Linted, out: Path | None, changes: dict[str, list[int]]) -> None:
    from mace_ft_bench.datasets.lint.finding import named  # noqa: PLC0415 - beside its use

    print_findings(linted.findings, linted.names)
    counts = {kind: sum(finding.severity == kind for finding in linted.findings) for kind in _COLOURS}
    lines = [
        (
            f"{len(linted.frames)} frames; errors: {counts['error']}, warnings: {counts['warning']}, "
            f"remarks: {counts['info']}"
        )
    ]
    if out is not None:
        lines += [f"{text}: {len(frames)} ({named(frames, linted.names)})" for text, frames in changes.items()]
        lines += [
            f"{name} stays as it is: its convention has to be named (mfb data convert)" for name in _stress_left(linted)
        ]
        dropped = sum(len(frames) for text, frames in changes.items() if text.startswith("dropped"))
        lines.append(f"{len(linted.frames) - dropped} of {len(linted.frames)} frames written to {out}")
    for line in lines:
        console().print(line, soft_wrap=True, markup=False, highlight=False)


def _stress_left(linted: Linted) -> list[str]:
    from mace_ft_bench.datasets.lint.fix import unrepaired_stress  # noqa: PLC0415 - beside its use

    return list(unrepaired_stress(linted))


def print_findings(findings: list[Finding], names: list[str]) -> None:
    """Print findings as a table, worst first."""
    from mace_ft_bench.datasets.lint.finding import named  # noqa: PLC0415 - beside its use

    if not findings:
        return
    table = Table(show_lines=True)
    table.add_column("")
    table.add_column("check", no_wrap=True)
    table.add_column("what, and what to do", overflow="fold", ratio=3)
    table.add_column("frames", overflow="fold", ratio=1)
    for finding in findings:
        table.add_row(
            f"[{_COLOURS[finding.severity]}]{finding.severity}[/]",
            escape(finding.check),
            escape(f"{finding.message}\nTo fix: {finding.fix}"),
            escape(f"{len(finding.frames)}: {named(finding.frames, names)}" if finding.frames else "all"),
        )
    console().print(table)
