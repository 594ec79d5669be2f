"""``mfb data split``: training, validation and test files that do not know one another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mace_ft_bench.cli.console import console, error_console, print_json
from mace_ft_bench.cli.data.files import Json, Overwrite
from mace_ft_bench.cli.data.lint import print_findings
from mace_ft_bench.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

    from mace_ft_bench.datasets.lint.finding import Finding
    from mace_ft_bench.datasets.partition import Partition

_PARTS = ("train", "valid", "test")


def split(
    sources: Annotated[list[str], typer.Argument(help="Extended XYZ files, <dataset> or <dataset>:<split>.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for train.xyz, valid.xyz and test.xyz.")],
    by: Annotated[
        str, typer.Option(help="What stays together: config_type, key:NAME, trajectory, block:N, or frame (nothing).")
    ] = "config_type",
    fractions: Annotated[
        tuple[float, float, float], typer.Option(help="Shares of training, validation and test; 0 for none.")
    ] = (0.8, 0.1, 0.1),
    gap: Annotated[int, typer.Option(help="Frames dropped between neighbouring blocks of different parts.")] = 0,
    seed: Annotated[int, typer.Option(help="Same seed, same split.")] = 0,
    allow_leak: Annotated[
        bool, typer.Option("--allow-leak", help="Write the files even if one frame is in two of them.")
    ] = False,
    mirror: Annotated[Path | None, typer.Option(help="Folder of byte-identical copies (default: $MFB_MIRROR).")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Split frames by what belongs together, and look whether the parts know one another."""
    from mace_ft_bench.datasets.exact_extxyz import write_exact  # noqa: PLC0415 - imports ASE's formats
    from mace_ft_bench.datasets.lint.geometry import is_isolated  # noqa: PLC0415 - as above
    from mace_ft_bench.datasets.lint.keys import as_in_file  # noqa: PLC0415 - as above
    from mace_ft_bench.datasets.lint.run import lint_leaks  # noqa: PLC0415 - imports spglib
    from mace_ft_bench.datasets.lint.sources import read_sources  # noqa: PLC0415 - as above
    from mace_ft_bench.datasets.partition import parse_grouping, partition  # noqa: PLC0415 - beside its use

    grouping = parse_grouping(by, gap=gap)
    files = {name: out / f"{name}.xyz" for name, share in zip(_PARTS, fractions, strict=True) if share > 0}
    _refuse_existing(out, list(files.values()), overwrite=overwrite)
    if {path.resolve() for path in files.values()} & {Path(source).resolve() for source in sources}:
        raise DataError(f"A source lies in {out} under the name of a part.", fix="name another folder.")
    frames, names = read_sources(sources, mirror=mirror)
    isolated = [index for index, frame in enumerate(frames) if is_isolated(frame)]
    parted = partition(frames, grouping, fractions, seed=seed, first=isolated)
    parts = {name: parted.parts[_PARTS.index(name)] for name in files}
    with error_console().status("looking for leaks ..."):
        found = lint_leaks([[frames[index] for index in part] for part in parts.values()])
    findings = dict(zip(list(files)[1:], found, strict=True))
    leaking = any(finding.severity == "error" for part in findings.values() for finding in part)
    if not json:
        _print(parts, parted, frames)
        for name, part in findings.items():
            if part:
                console().print(f"{name}.xyz beside the parts before it, frames by their names in the sources:")
            print_findings(part, [names[index] for index in parts[name]])
    if leaking and not allow_leak:
        raise DataError(
            "One frame, or a copy of it that is turned or permuted, would be in two files; nothing is written.",
            fix="drop repeated frames (mfb data lint --fix), divide by groups that hold them, or pass --allow-leak.",
        )
    out.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        write_exact([as_in_file(frames[index]) for index in parts[name]], path)
    if json:
        print_json(_plain(files, parts, parted, findings))
    else:
        console().print(", ".join(map(str, files.values())), soft_wrap=True, markup=False)


def _refuse_existing(out: Path, files: list[Path], *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is no folder.", fix="name a folder.")
    existing = [path for path in files if path.exists()]
    if existing and not overwrite:
        raise DataError(f"{existing[0]} exists.", fix="choose another folder, or pass --overwrite.")


def _plain(
    files: dict[str, Path],
    parts: dict[str, tuple[int, ...]],
    parted: Partition,
    findings: dict[str, list[Finding]],
) -> dict[str, object]:
    from dataclasses import asdict  # noqa: PLC0415 - used here only

    return {
        "files": {name: str(path) for name, path in files.items()},
        "frames": parts,
        "dropped": parted.dropped,
        "findings": {name: [asdict(finding) for finding in part] for name, part in findings.items()},
    }


def _print(parts: dict[str, tuple[int, ...]], parted: Partition, frames: list[Atoms]) -> None:
    from mace_ft_bench.datasets.lint.sources import group_of  # noqa: PLC0415 - beside its use

    counts = {name: Counter(group_of(frames[index]) for index in part) for name, part in parts.items()}
    table = Table("group", *parts, "dropped")
    dropped = Counter(group_of(frames[index]) for index in parted.dropped)
    for group in sorted({group_of(frame) for frame in frames}):
        table.add_row(escape(group or "(none)"), *(str(counts[name][group]) for name in parts), str(dropped[group]))
    table.add_section()
    table.add_row("all", *(str(len(part)) for part in parts.values()), str(len(parted.dropped)))
    console().print(table)
