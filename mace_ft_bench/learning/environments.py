"""Surroundings that atoms meet in applications: defects, surfaces, molecules, liquids, adsorbates, ion conductors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.build import bulk, graphene, molecule, surface
from ase.data import covalent_radii
from ase.geometry import get_distances
from ase.spacegroup import crystal

from mace_ft_bench.learning.atomic_volumes import VOLUMES
from mace_ft_bench.learning.parent import Parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MOLECULES = (
    "H2",
    "F2",
    "Cl2",
    "P2",
    "CH4",
    "C2H2",
    "C2H4",
    "C2H6",
    "H2O",
    "CO",
    "CO2",
    "LiH",
    "PH3",
    "SH2",
    "HF",
    "HCl",
)
_MORE_MOLECULES = (
    "SiH4",
    "CH3OH",
    "CH3Cl",
    "LiF",
    "SiO",
    "CS",
    "S2",
    "H2CO",
    "HCOOH",
    "Si2H6",
    "ClF",
    "CF4",
    "SO2",
    "H2O2",
)
_SLABS = (
    ("Mo", "bcc", 3.16),
    ("Si", "diamond", 5.46),
    ("Ge", "diamond", 5.76),
    ("Al", "fcc", 4.04),
    ("Au", "fcc", 4.16),
)
_SALTS = (("MgO", 4.25), ("LiCl", 5.13), ("LiF", 4.07))
_FACES = ((1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 1))
_PACKINGS = (
    *("Si12", "Ge12", "Mo12", "C12", "Al12", "Au12", "Li12", "Ga12", "Mg12", "P12", "S12", "Si6Ge6", "Li8S4", "Li6PS5"),
    *(
        "Li6P2S8",
        "Li8Ge2S8",
        "Li10GeP2S12",
        "Ge4S8",
        "P4S10",
        "Li3P4",
        "Li7P",
        "Li6Ge2",
        "Si4O8",
        "Mg4O4",
        "Mg3Al2O6",
        "LiCl6Ga2",
    ),
    *(
        "Ga3F9",
        "Al3F9",
        "Ga3Cl9",
        "Li4Cl4",
        "Li4F4",
        "Li3Ga2Cl6F3",
        "Li3GaF6",
        "Li3Cl2Ga2F5",
        "Mg4Au4",
        "Mo6Si6",
        "Mo6Al6",
    ),
    *(
        "C6O3H3",
        "C8O2H4",
        "C4H8O4",
        "Mo8C4",
        "Mo4S8",
        "Au4O2Mg2",
        "Al4O6",
        "P2O5",
        "Li3PO4",
        "Mg2SiO4",
        "Li2Ge2O5",
        "H8O4",
    ),
)
_GRAPHENE = 2.467
"""Lattice constant of graphene with PBE [Angstrom]."""
_WATER = 29.9
"""Volume of a molecule of liquid water [Angstrom^3]."""
_VACUUM = 4.5
"""On either side of a slab [Angstrom]: atoms of CHGNet see 6."""


def molecules() -> Iterator[Parent]:
    """Yield molecules in periodic boxes, within reach of their images."""
    for name in (*_MOLECULES, *_MORE_MOLECULES):
        atoms = molecule(name)
        atoms.set_cell(np.ptp(atoms.positions, axis=0) + 4.5)
        atoms.center()
        yield Parent(f"molecule-{name}", "molecules", _periodic(atoms))


def vacancies() -> Iterator[Parent]:
    """Yield metals and semiconductors without one of their atoms."""
    for symbol, lattice, a in _SLABS:
        atoms = bulk(symbol, lattice, a=a, cubic=True) * ((2, 2, 2) if lattice != "diamond" else (2, 1, 1))
        del atoms[0]
        yield Parent(f"vacancy-{symbol}", "defects", atoms)


def surfaces() -> Iterator[Parent]:
    """Yield slabs, and stacks whose halves have slipped, of metals and semiconductors, and slabs of salts."""
    for symbol, lattice, a in _SLABS:
        cubic, layers = bulk(symbol, lattice, a=a, cubic=True), 2 if lattice == "diamond" else 4
        for face in _FACES:
            name = f"{symbol}-{''.join(map(str, face))}"
            yield Parent(f"slab-{name}", "surfaces", surface(cubic, face, layers, vacuum=_VACUUM, periodic=True))
            for number, share in enumerate(((0.5, 0.0), (0.0, 0.5), (0.33, 0.33), (0.5, 0.25))):
                yield Parent(f"slip-{name}-{number}", "surfaces", _slipped(cubic, face, layers, share))
    for formula, a in _SALTS:
        for face in _FACES[:2]:
            slab = surface(bulk(formula, "rocksalt", a=a, cubic=True), face, 2, vacuum=_VACUUM, periodic=True)
            yield Parent(f"slab-{formula}-{''.join(map(str, face))}", "surfaces", slab)


def _slipped(crystal_: Atoms, face: tuple[int, int, int], layers: int, share: tuple[float, float]) -> Atoms:
    """Return a periodic stack whose upper half is displaced in the plane: two stacking faults."""
    stack = surface(crystal_, face, layers, periodic=True)
    upper = stack.get_scaled_positions()[:, 2] > 0.5 - 1e-6
    stack.positions[upper] += np.dot(share, stack.cell.array[:2])
    return _periodic(stack)


def adsorbates(generator: np.random.Generator) -> Iterator[Parent]:
    """Yield gold dimers on clean and doped MgO(001), water on graphene, and graphene oxide."""
    for number in range(24):
        slab = surface(bulk("MgO", "rocksalt", a=4.25, cubic=True), (1, 0, 0), 1 + number % 2)
        slab.center(vacuum=0, axis=2)
        slab *= (2, 1, 1)
        if number % 3 == 2:  # noqa: PLR2004 - every third
            metal = [atom.index for atom in slab if atom.symbol == "Mg"]
            slab.symbols[generator.choice(metal)] = "Al"
        yield Parent(f"gold-on-mgo-{number}", "adsorbates", _with_gold(slab, generator))
    for number in range(16):
        yield Parent(f"graphene-oxide-{number}", "adsorbates", _graphene_oxide(generator))
        yield Parent(f"graphene-water-{number}", "adsorbates", _graphene_water(generator))


def _with_gold(slab: Atoms, generator: np.random.Generator) -> Atoms:
    top = slab.positions[:, 2].max()
    foot = slab.positions[generator.integers(len(slab))] * [1, 1, 0] + [*generator.normal(0, 0.5, 2), top]
    tilt = generator.choice([0.0, 0.5, 1.0]) * np.pi / 2
    axis = 2.5 * np.array([np.sin(tilt), 0, np.cos(tilt)])
    lowest = np.add(foot, (0, 0, generator.uniform(2.0, 3.2)))
    both = slab + Atoms("Au2", [lowest, lowest + axis])
    both.center(vacuum=_VACUUM, axis=2)
    return _periodic(both)


def _graphene_oxide(generator: np.random.Generator) -> Atoms:
    sheet = graphene(size=(3, 2, 1), a=_GRAPHENE)
    carbons = len(sheet)
    for _ in range(generator.integers(1, 4)):
        place, side = sheet.positions[generator.integers(carbons)], generator.choice([-1.0, 1.0])
        if generator.random() < 0.5:  # noqa: PLR2004 - a coin
            sheet += Atoms("O", [np.add(place, (0, 0.71, 1.23 * side))])
        else:
            sheet += Atoms("OH", np.add(place, [(0, 0, 1.45 * side), (0.9, 0, 1.75 * side)]))
    sheet.set_cell([*sheet.cell.array[:2], [0, 0, 9.0]])
    sheet.center(axis=2)
    return _apart(_periodic(sheet), carbons)


def _apart(atoms: Atoms, kept: int) -> Atoms:
    """Return the atoms without those beyond the first ``kept`` that lie on others."""
    close = atoms.get_all_distances(mic=True) + 9 * np.eye(len(atoms)) < 0.8  # noqa: PLR2004 - [Angstrom]
    return atoms[[index for index in range(len(atoms)) if index < kept or not close[index, :index].any()]]


def _graphene_water(generator: np.random.Generator) -> Atoms:
    sheet = graphene(size=(3, 3, 1), a=_GRAPHENE)
    sheet.set_cell([*sheet.cell.array[:2], [0, 0, 9.0]])
    return _with_water(_periodic(sheet), 3, generator, lowest=2.4)


def liquids(elements: Sequence[str], generator: np.random.Generator) -> Iterator[Parent]:
    """Yield boxes of water, and random packings of many compositions at three densities each."""
    for number in range(24):
        count = int(generator.integers(3, 9))
        edge = (count * _WATER * generator.uniform(0.9, 1.4)) ** (1 / 3)
        yield Parent(f"water-{number}", "liquids", _with_water(Atoms(cell=[edge] * 3, pbc=True), count, generator))
    for formula in _PACKINGS:
        symbols = list(Atoms(formula).symbols)
        if set(symbols) <= set(elements):
            for number, room in enumerate((0.85, 1.0, 1.25)):
                yield Parent(f"packing-{formula}-{number}", "liquids", random_packing(symbols, room, generator))


def _with_water(atoms: Atoms, count: int, generator: np.random.Generator, *, lowest: float = 0.0) -> Atoms:
    """Return the atoms with up to ``count`` molecules of water put in at random."""
    for _ in range(200 * count):
        new = molecule("H2O")
        new.rotate(generator.uniform(0, 360), generator.normal(size=3))
        place = generator.random(3) @ atoms.cell.array
        if place[2] < lowest or place[2] > atoms.cell.array[2, 2] - lowest:
            continue
        new.positions += place
        if len(atoms) == 0 or get_distances(new.positions, atoms.positions, cell=atoms.cell, pbc=True)[1].min() > 1.7:  # noqa: PLR2004 - a hydrogen bond is longer
            atoms += new
        if (atoms.symbols == "O").sum() == count:
            break
    return atoms


def ion_conductors(generator: np.random.Generator) -> Iterator[Parent]:
    """Yield Li10GeP2S12 with lithium, germanium and phosphorus ordered at random (doi 10.1038/nmat3066)."""
    sites = {
        "metal": (0, 0.5, 0.6906),
        "P": (0, 0, 0.5),
        "Li": [(0.257, 0.273, 0.183), (0, 0.5, 0.945), (0.249, 0.249, 0)],
        "S": [(0, 0.183, 0.4077), (0, 0.2989, 0.0949), (0, 0.6972, 0.7920)],
    }
    symbols = ["Ge", "P", *["Li"] * 3, *["S"] * 3]
    places = [sites["metal"], sites["P"], *sites["Li"], *sites["S"]]
    full = crystal(symbols, places, spacegroup=137, cellpar=[8.72, 8.72, 12.63, 90, 90, 90])
    full = Atoms(full.symbols, full.positions, cell=full.cell, pbc=True)
    for number in range(24):
        atoms = full.copy()
        mixed = [atom.index for atom in atoms if atom.symbol == "Ge"]
        kind = number % 4
        atoms.symbols[generator.choice(mixed, (2, 2, 0, 4)[kind], replace=False)] = "P"
        lithium = np.flatnonzero(atoms.symbols == "Li")
        yield Parent(f"lgps-{number}", "ion-conductors", _thinned(atoms, lithium, (20, 20, 24, 16)[kind], generator))


def _thinned(atoms: Atoms, sites: np.ndarray, count: int, generator: np.random.Generator) -> Atoms:
    """Return the atoms with ``count`` of the sites occupied, those chosen one after another among the loneliest."""
    distances = atoms.get_all_distances(mic=True)
    left = [int(site) for site in sites]
    while len(left) > count:
        crowding = (distances[np.ix_(left, left)] < 2.4).sum(axis=1) + generator.random(len(left))  # noqa: PLR2004 - [Angstrom]
        del left[int(crowding.argmax())]
    empty = set(sites.tolist()) - set(left)
    return atoms[[index for index in range(len(atoms)) if index not in empty]]


def random_packing(symbols: Sequence[str], room: float, generator: np.random.Generator) -> Atoms:
    """Return atoms of a cubic cell, placed one after another where there is most room among 400 random places.

    Parameters
    ----------
    symbols
        Elements.
    room
        Volume in units of what the atoms take in common solids.
    generator
        Source of randomness.
    """
    edge = (room * sum(VOLUMES[symbol] for symbol in symbols)) ** (1 / 3)
    atoms = Atoms(symbols, cell=[edge] * 3, pbc=True)
    radii = covalent_radii[atoms.numbers]
    placed: list[int] = []
    for index in generator.permutation(len(atoms)).tolist():
        places = generator.random((400 if placed else 1, 3)) @ atoms.cell.array
        if placed:
            apart = get_distances(places, atoms.positions[placed], cell=atoms.cell, pbc=True)[1]
            places = places[[int((apart / (radii[index] + radii[placed])).min(axis=1).argmax())]]
        atoms.positions[index] = places[0]
        placed.append(index)
    return atoms


def _periodic(atoms: Atoms) -> Atoms:
    atoms.pbc = True
    return atoms
