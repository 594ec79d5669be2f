"""Structures of the case cards as ASE objects."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import ase.io
from ase import Atoms
from ase.build import bulk
from ase.lattice import cubic

from mace_ft_bench import paths
from mace_ft_bench.errors import StructureError
from mace_ft_bench.results.case import BulkStructure, FileStructure, OrientedStructure

if TYPE_CHECKING:
    from pathlib import Path

_CUBIC_LATTICES = {
    "sc": cubic.SimpleCubic,
    "bcc": cubic.BodyCenteredCubic,
    "fcc": cubic.FaceCenteredCubic,
    "diamond": cubic.Diamond,
}


def build(structure: BulkStructure | OrientedStructure | FileStructure) -> Atoms:
    """Return the structure of a case, periodic in three dimensions, without a calculator.

    Raises
    ------
    StructureError
        If ASE cannot build it or the file does not exist.
    """
    if isinstance(structure, FileStructure):
        return _from_file(structure)
    try:
        return _oriented(structure) if isinstance(structure, OrientedStructure) else _bulk(structure)
    except (ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise StructureError(
            f"ASE cannot build {structure}: {error}.", fix="correct [structure] of the case."
        ) from error


def _bulk(structure: BulkStructure) -> Atoms:
    unit = bulk(structure.element, structure.lattice, a=structure.a, cubic=structure.cubic)
    supercell: Atoms = unit.repeat(structure.repeat)
    return supercell


def _oriented(structure: OrientedStructure) -> Atoms:
    """Build along the directions in the order given; a left-handed set stays left-handed."""
    with contextlib.redirect_stdout(io.StringIO()):  # ASE prints that the set is left-handed, which is wanted here
        lattice = _CUBIC_LATTICES[structure.lattice](
            directions=[list(direction) for direction in structure.directions],
            size=structure.size,
            symbol=structure.element,
            latticeconstant=structure.a,
        )
    return Atoms(lattice.symbols, positions=lattice.positions, cell=lattice.cell, pbc=True)


def _from_file(structure: FileStructure) -> Atoms:
    folder = paths.reference_data() / "structures"
    path: Path = (folder / structure.file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise StructureError(f"{structure.file} lies outside {folder}.", fix="give a path relative to that folder.")
    if not path.is_file():
        raise StructureError(f"{path} does not exist.", fix="add the file, or correct its name in the case.")
    frames = list(ase.io.iread(path))
    if len(frames) != 1:
        raise StructureError(f"{path} holds {len(frames)} structures.", fix="keep one per file.")
    atoms = frames[0]
    atoms.calc = None  # a label stored in the file is not a result of the model
    atoms.pbc = True
    return atoms
