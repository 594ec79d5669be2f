"""What the commands that make frames share: their options, and the files they read and write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mace_ft_bench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

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


def read_structures(paths: Sequence[Path]) -> list[Atoms]:
    """Return all structures of files of any format ASE reads.

    Raises
    ------
    DataError
        If a file does not exist, cannot be read, or holds no structure.
    """
    return [structure for path in paths for structure in _read(path)]


def _read(path: Path) -> list[Atoms]:
    from ase.io import read  # noqa: PLC0415 - slow to import

    if not path.is_file():
        raise DataError(f"{path} does not exist.", fix="check the path.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.", fix="check how it was made.")
    try:
        if path.suffix in _SUFFIXES:
            return _read_extxyz(path)
        found = cast("list[Atoms]", read(path, index=":"))
    except DataError:
        raise
    except Exception as error:  # ASE's readers raise whatever they stumble over
        raise DataError(f"ASE cannot read {path}: {error!r}.", fix="check the file and its suffix.") from error
    return _some(found, path)


def _read_extxyz(path: Path) -> list[Atoms]:
    """Return all frames; ASE stops at an empty line, and what follows one would be lost in silence."""
    from ase.io import read  # noqa: PLC0415 - slow to import

    with path.open(encoding="utf-8") as file:
        found = cast("list[Atoms]", read(file, index=":", format="extxyz"))
        if file.read().strip():
            raise DataError(f"{path} goes on after an empty line behind {len(found)} frames.", fix="remove the line.")
    return _some(found, path)


def _some(found: list[Atoms], path: Path) -> list[Atoms]:
    if not found:
        raise DataError(f"{path} holds no structure.", fix="check how it was made.")
    return found
