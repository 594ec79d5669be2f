"""Structures from files of any format ASE reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from mace_ft_bench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ase import Atoms

_EXTENDED_XYZ = (".xyz", ".extxyz")


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
        if path.suffix in _EXTENDED_XYZ:
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
