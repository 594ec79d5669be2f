"""Where two solids meet, slabs of fluorides, metal clusters on oxides, and cages of sulphur and phosphorus."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule, surface

from mace_ft_bench.learning.parent import Parent

if TYPE_CHECKING:
    from collections.abc import Iterator

_LICL = 5.13
_GAF3 = 3.75
"""Lattice constants [Angstrom]: of LiCl, and of GaF3 as rhenium trioxide, whose square faces fit to 3 %."""
_GAP = 2.4
"""Distance of the two solids [Angstrom]."""
_BOX = 4.5
"""Room around a molecule [Angstrom]: CHGNet sees its images, and refuses atoms that see nothing within 6."""
_MGO = 4.25
_PHOSPHORUS, _SULPHUR = 2.21, 2.06
"""Bond lengths of P4 and S8 [Angstrom]."""


def interfaces_and_clusters() -> Iterator[Parent]:
    """Yield the stacks, slabs and clusters of this module."""
    yield from interfaces()
    yield from clusters_on_oxide()


def interfaces() -> Iterator[Parent]:
    """Yield stacks of LiCl(001) and GaF3(001) of several thicknesses, and slabs of either."""
    for chloride, fluoride in ((2, 1), (2, 2), (3, 2), (4, 2), (3, 3)):
        for turned in (False, True):
            name = f"licl{chloride}-gaf3{fluoride}{'-shifted' if turned else ''}"
            yield Parent(f"interface-{name}", "interfaces", licl_on_gaf3(chloride, fluoride, shifted=turned))
    for layers in (2, 3):
        slab = _gallium_fluoride(_GAF3, layers)
        slab.center(vacuum=_BOX, axis=2)
        yield Parent(f"slab-GaF3-{layers}", "interfaces", _periodic(slab * (2, 1, 1)))


def licl_on_gaf3(chloride: int, fluoride: int, *, shifted: bool) -> Atoms:
    """Return a periodic stack of LiCl(001) and GaF3(001), two surface cells wide.

    Parameters
    ----------
    chloride, fluoride
        Number of layers.
    shifted
        Lithium over gallium instead of chlorine.
    """
    side = (_LICL / np.sqrt(2) + _GAF3) / 2
    lower = _gallium_fluoride(side, fluoride)
    top, step = lower.positions[:, 2].max() + _GAP, _LICL / 2
    for layer in range(chloride):
        ends = ("Li", "Cl") if (layer % 2 == 0) == shifted else ("Cl", "Li")
        lower += Atoms(ends, [[0, 0, top + layer * step], [side / 2, side / 2, top + layer * step]])
    lower.set_cell([side, side, top + (chloride - 1) * step + _GAP])
    return _periodic(lower * (2, 1, 1))


def _gallium_fluoride(side: float, layers: int) -> Atoms:
    """Return layers of corner-sharing octahedra that end with the fluorines of their tips."""
    unit = ("Ga", (0, 0, 0)), ("F", (0.5, 0, 0)), ("F", (0, 0.5, 0)), ("F", (0, 0, 0.5))
    atoms = Atoms(cell=[side, side, layers * _GAF3])
    for layer in range(layers):
        for symbol, place in unit:
            atoms += Atoms(symbol, [np.add(place, (0, 0, layer)) * (side, side, _GAF3)])
    return atoms


def clusters_on_oxide() -> Iterator[Parent]:
    """Yield one to four gold atoms on MgO(001), clean and with one aluminium atom."""
    shapes: dict[str, list[list[float]]] = {
        "Au1": [[0.0, 0, 0]],
        "Au2": [[0, 0, 0], [0, 0, 2.5]],
        "Au3": [[0, 0, 0], [2.7, 0, 0], [1.35, 0, 2.3]],
        "Au4": [[0, 0, 0], [2.7, 0, 0], [1.35, 2.3, 0.2], [1.35, 0.8, 2.3]],
    }
    for name, places in shapes.items():
        for doped in (False, True):
            slab = surface(bulk("MgO", "rocksalt", a=_MGO, cubic=True), (1, 0, 0), 1) * (2, 2, 1)
            oxygen = slab.positions[slab.numbers == 8][0]  # noqa: PLR2004 - gold sits on oxygen
            if doped:
                slab.symbols[int(np.flatnonzero(slab.numbers == 12)[-1])] = "Al"  # noqa: PLR2004 - magnesium
            top = np.array([oxygen[0], oxygen[1], slab.positions[:, 2].max() + 2.2])
            both = slab + Atoms(f"Au{len(places)}", np.array(places) + top)
            both.center(vacuum=_BOX, axis=2)
            yield Parent(f"{name}-on-mgo{'-al' if doped else ''}", "interfaces", _periodic(both))


def cages() -> Iterator[Parent]:
    """Yield S8, P4, P4S10 and O2 in boxes, and a box of two S8."""
    yield Parent("cage-S8", "cages", _boxed(sulphur_ring()))
    pair = sulphur_ring()
    pair += Atoms("S8", np.add(pair.positions, (0, 0, 3.8)))
    yield Parent("cage-S16", "cages", _boxed(pair))
    yield Parent("cage-P4", "cages", _boxed(_tetrahedron("P4", _PHOSPHORUS)))
    yield Parent("cage-P4S10", "cages", _boxed(phosphorus_pentasulphide()))
    yield Parent("cage-O2", "cages", _boxed(molecule("O2")))


def sulphur_ring() -> Atoms:
    """Return the crown of S8."""
    angle, height = np.arange(8) * np.pi / 4, 0.5
    radius = np.sqrt(_SULPHUR**2 - (2 * height) ** 2) / (2 * np.sin(np.pi / 8))
    places = np.c_[radius * np.cos(angle), radius * np.sin(angle), height * (-1.0) ** np.arange(8)]
    return Atoms("S8", places)


def _tetrahedron(formula: str, edge: float) -> Atoms:
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * edge / np.sqrt(8)
    return Atoms(formula, corners)


def phosphorus_pentasulphide() -> Atoms:
    """Return the cage of P4S10: a sulphur atom outside every edge and beyond every corner of a tetrahedron."""
    cage = _tetrahedron("P4", 3.42)
    corners = cage.positions.copy()
    for first, second in combinations(corners, 2):
        middle = (first + second) / 2
        cage += Atoms("S", [middle * (1 + 1.22 / np.linalg.norm(middle))])
    for corner in corners:
        cage += Atoms("S", [corner * (1 + 1.95 / np.linalg.norm(corner))])
    return cage


def _boxed(atoms: Atoms) -> Atoms:
    atoms.set_cell(np.ptp(atoms.positions, axis=0) + _BOX)
    atoms.center()
    return _periodic(atoms)


def _periodic(atoms: Atoms) -> Atoms:
    atoms.pbc = True
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
