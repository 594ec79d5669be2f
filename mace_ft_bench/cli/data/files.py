"""What the commands that make frames share: their options, and the files they read and write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mace_ft_bench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence


_SUFFIXES = (".xyz", ".extxyz")

Out = Annotated[Path, typer.Option(help="Extended XYZ file to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


def refuse_existing(out: Path, *, overwrite: bool, sources: Sequence[Path | str] = ()) -> None:
    """Refuse an output file before any work is done.

    Raises
    ------
    DataError
        If it exists, has no folder, the name of another format, or is one of the sources, which nothing overwrites.
    """
    if out.suffix not in _SUFFIXES:
        raise DataError(f"{out} would hold extended XYZ.", fix=f"name it *{' or *'.join(_SUFFIXES)}.")
    if not out.parent.is_dir():
        raise DataError(f"The folder {out.parent} does not exist.", fix="make it.")
    if out.resolve() in {Path(source).resolve() for source in sources}:
        raise DataError(f"{out} is a source.", fix="write to another file.")
    if out.exists() and not overwrite:
        raise DataError(f"{out} exists.", fix="choose another name, or pass --overwrite.")
