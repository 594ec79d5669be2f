"""What is timed: water on graphene and bcc molybdenum of a chosen number of atoms, or a cell of a file, repeated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import ase.io
import numpy as np
from ase.build import bulk, graphene, make_supercell, molecule

from mace_ft_bench.errors import StructureError, UnknownNameError, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ase import Atoms

_SPACING = 3.11
"""Between water molecules on a grid [Angstrom]: the density of the liquid."""
_ABOVE_SHEET = 3.4
"""From the sheet to the centres of the first water molecules [Angstrom]."""
_VACUUM = 15.0
"""Above the water [Angstrom]."""
_SHEET = 4
"""Atoms of the rectangular cell of graphene."""
_WATER = 3
_FEWEST_COLUMNS = 2
"""Cells of graphene along the short side; in one, molecules would meet their images."""
_SEARCHED = 3
"""Cells more or less than the best number, along each side."""


def system_name(name_or_file: str) -> str:
    """Return the name of a system in tables: that of a built one, or that of a file without its ending.

    Raises
    ------
    UnknownNameError
        If there is no such system or file.
    """
    if name_or_file in SYSTEMS:
        return name_or_file
    if not Path(name_or_file).is_file():
        raise UnknownNameError(
            f'No system or file is called "{name_or_file}".',
            fix=f"give a structure file, or a system: {suggestion(name_or_file, SYSTEMS)}",
        )
    return Path(name_or_file).stem


def build_system(name_or_file: str, atoms: int) -> Atoms:
    """Return a system of exactly so many atoms.

    Parameters
    ----------
    name_or_file
        One of :data:`SYSTEMS`, or a file with one structure, which is repeated.
    atoms
        Number of atoms.

    Raises
    ------
    UnknownNameError
        If there is no such system or file.
    StructureError
        If the file cannot be read or the system cannot have so many atoms.
    """
    system_name(name_or_file)
    if name_or_file in SYSTEMS:
        return SYSTEMS[name_or_file](atoms)
    return repeated_to(_only_structure(Path(name_or_file)), atoms)


def _only_structure(path: Path) -> Atoms:
    try:
        frames = list(ase.io.iread(path))
    except Exception as error:  # the readers of ASE raise anything on a file that is not what its name says
        raise StructureError(f"{path} cannot be read: {error}.", fix="give a structure that ASE reads.") from error
    if len(frames) != 1:
        raise StructureError(f"{path} holds {len(frames)} structures.", fix="give a file with one.")
    frames[0].calc = None
    return frames[0]


def repeated_to(unit: Atoms, atoms: int) -> Atoms:
    """Return a supercell of so many atoms, as near to a cube as its repeats allow; only periodic directions repeat.

    Raises
    ------
    StructureError
        If there is no such supercell.
    """
    cells, rest = divmod(atoms, len(unit))
    if rest or cells < 1:
        near = [count * len(unit) for count in sorted({max(cells, 1), cells + 1})]
        raise StructureError(
            f"A cell of {len(unit)} atoms cannot be repeated to {atoms}.",
            fix=f"use a multiple: {' or '.join(map(str, near))}.",
        )
    possible = [
        repeats
        for repeats in _products(cells)
        if all(count == 1 or periodic for count, periodic in zip(repeats, unit.pbc, strict=True))
    ]
    if not possible:
        raise StructureError(
            f"The structure is not periodic and cannot be repeated to {atoms} atoms.",
            fix=f"use its own {len(unit)} atoms, or a periodic one.",
        )
    lengths = unit.cell.lengths()
    supercell: Atoms = unit.repeat(min(possible, key=lambda repeats: float((repeats * lengths).max())))
    return supercell


def _products(count: int) -> Iterator[tuple[int, int, int]]:
    for first in _divisors(count):
        for second in _divisors(count // first):
            yield first, second, count // (first * second)


def _divisors(count: int) -> list[int]:
    return [number for number in range(1, count + 1) if count % number == 0]


def molybdenum(atoms: int) -> Atoms:
    """Return a displaced bcc supercell.

    Raises
    ------
    StructureError
        If the number of atoms is odd.
    """
    supercell = repeated_to(bulk("Mo", "bcc", a=3.16, cubic=True), atoms)
    supercell.rattle(0.05, seed=0)
    return supercell


def graphene_with_water(atoms: int) -> Atoms:
    """Return a sheet of graphene under randomly turned water molecules on a grid, periodic in all directions.

    About a quarter of the atoms is carbon.

    Raises
    ------
    StructureError
        If there are too few atoms for both.
    """
    sheet: Atoms = make_supercell(graphene(vacuum=1.5), ((1, 0, 0), (1, 2, 0), (0, 0, 1))) * (*_sheet_size(atoms), 1)
    rng = np.random.default_rng(0)
    sites = _sites(sheet, (atoms - len(sheet)) // _WATER)
    for site in sites:
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3), center="COP")
        water.translate(site - water.get_center_of_mass())
        sheet += water
    sheet.cell[2, 2] = sites[:, 2].max() + _VACUUM
    sheet.pbc = True
    return sheet


def _sheet_size(atoms: int) -> tuple[int, int]:
    """Return the cells of graphene, 2.46 by 4.26 Angstrom, that leave whole molecules, nearest to a square quarter."""
    best = (atoms / 9.2) ** 0.5, (atoms / 27.7) ** 0.5
    around = [range(max(1, round(side) - _SEARCHED), round(side) + _SEARCHED + 1) for side in best]
    possible = [
        (short, long)
        for short in around[0]
        for long in around[1]
        if short >= _FEWEST_COLUMNS and _leaves_water(atoms - _SHEET * short * long)
    ]
    if not possible:
        raise StructureError(f"{atoms} atoms are too few for water on graphene.", fix="use 128 or more.")
    return min(possible, key=lambda size: math.hypot(math.log(size[0] / best[0]), math.log(size[1] / best[1])))


def _leaves_water(rest: int) -> bool:
    return rest > 0 and rest % _WATER == 0


def _sites(sheet: Atoms, count: int) -> np.ndarray:
    """Return the first sites of a grid above the sheet, layer by layer (count, 3) [Angstrom]."""
    lengths = sheet.cell.lengths()[:2]
    columns = np.floor(lengths / _SPACING).astype(int)
    layers = -(-count // columns.prod())
    layer, x, y = np.indices((layers, *columns)).reshape(3, -1)[:, :count]
    height = sheet.positions[:, 2].max() + _ABOVE_SHEET + _SPACING * layer
    return np.column_stack([(x + 0.5) * lengths[0] / columns[0], (y + 0.5) * lengths[1] / columns[1], height])


SYSTEMS: dict[str, Callable[[int], Atoms]] = {"graphene-water": graphene_with_water, "molybdenum": molybdenum}
"""Systems of any size, by name."""
