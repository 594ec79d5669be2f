"""Structures of graphene under water, by python graphene_water.py FIRST LAST OUT.xyz.

Every structure is the end of a trajectory of its own: a sheet of 16 C atoms (4.93 x 8.54 Angstrom), a film of 4 to 12
molecules of water, or both, from a random start, relaxed a little and then 150 fs of Langevin dynamics by GFN1-xTB
(https://doi.org/10.1021/acs.jctc.7b00118) at 300 to 450 K. Hydrogen has a mass of 3 u, which lets steps be of 1 fs and
changes no average over positions. Structure i depends on i alone, so that more can be added at the end.
"""

from __future__ import annotations

import sys

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import FIRE

SEED = 2026
BOTH = "interface"
KINDS = (BOTH, "water", BOTH, BOTH, "sheet", BOTH, BOTH, "water", BOTH, BOTH)
MOLECULES = (4, 6, 8, 10, 12)
TEMPERATURES = (300, 350, 400, 450)
"""[K]"""
LATTICE_CONSTANT = 2.466
"""Of graphene in PBE [Angstrom]."""
SHEET_HEIGHT, GAP, LAYER = 1.5, 3.3, 3.0
"""Of the sheet in the cell, from it to the first layer of the film, and between layers [Angstrom]."""
GRID = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
"""Places of a layer's molecules, in edges of the cell."""
CLOSEST, TRIES = 1.3, 1000
"""Distance of atoms of two molecules at the start [Angstrom], and attempts at it."""
HOTTEST = 3000.0
"""Temperature beyond which dynamics have exploded [K]."""


def sheet() -> Atoms:
    """Return a flat sheet in an orthogonal cell."""
    a, b = LATTICE_CONSTANT, np.sqrt(3) * LATTICE_CONSTANT
    heights = np.array([1 / 6, 5 / 6, 1 / 3, 2 / 3]) * b
    positions = [[x, y, 0.0] for x, y in zip((0.0, 0.0, a / 2, a / 2), heights, strict=True)]
    return Atoms("C4", positions=positions, cell=[a, b, 1.0], pbc=True).repeat((2, 2, 1))


def film(cell: np.ndarray, molecules: int, generator: np.random.Generator) -> Atoms:
    """Return layers of four randomly turned molecules over a cell with edges [Angstrom]."""
    found = Atoms(cell=cell, pbc=True)
    for index in range(molecules):
        layer, place = divmod(index, len(GRID))
        shift = 0.25 * (layer % 2)
        height = SHEET_HEIGHT + GAP + LAYER * layer + 0.4 * (index % 2)
        site = np.array([*((GRID[place] + shift) * cell[:2]), height])
        found = _joined(found, site, generator)
    return found


def _joined(film_so_far: Atoms, site: np.ndarray, generator: np.random.Generator) -> Atoms:
    """Add a molecule near a site, moved and turned until it touches none of the others."""
    for _ in range(TRIES):
        water = molecule("H2O")
        water.rotate(generator.uniform(0, 360), generator.normal(size=3))
        water.translate(site + generator.normal(0, 0.15, 3) - water.positions[0])
        both = film_so_far + water
        between = both.get_all_distances(mic=True)[: len(film_so_far), len(film_so_far) :]
        if between.min(initial=np.inf) > CLOSEST:
            return both
    raise RuntimeError(f"No orientation of a molecule at {site} keeps {CLOSEST} Angstrom.")


def start(index: int, generator: np.random.Generator) -> Atoms:
    """Return where a trajectory begins."""
    kind, molecules = KINDS[index % len(KINDS)], MOLECULES[(index + index // len(MOLECULES)) % len(MOLECULES)]
    carbon = sheet()
    width, length = carbon.cell.lengths()[:2]
    cell = np.array([width, length, max(14.2 + 30.0 * molecules / (width * length), 14.0)])
    carbon.set_cell(cell)
    carbon.positions[:, 2] = SHEET_HEIGHT
    if kind == "sheet":
        carbon.set_cell(cell * [*generator.uniform(0.98, 1.02, 2), 14.0 / cell[2]], scale_atoms=True)
        return carbon
    water = film(cell, molecules, generator)
    return water if kind == "water" else carbon + water


def sampled(index: int) -> Atoms:
    """Return the end of a trajectory; needs tblite."""
    from tblite.ase import TBLite  # noqa: PLC0415 - no dependency of the package

    generator = np.random.default_rng([SEED, index])
    atoms = start(index, generator)
    temperature = TEMPERATURES[(index // len(KINDS)) % len(TEMPERATURES)]
    atoms.set_masses([3.0 if symbol == "H" else None for symbol in atoms.symbols])
    atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
    FIRE(atoms, logfile=None).run(fmax=0.3, steps=40)
    thermalize_momenta(atoms, temperature, rng=generator)
    friction = 0.02 / units.fs
    Langevin(atoms, 1.0 * units.fs, temperature_K=temperature, friction=friction, fixcm=False, rng=generator).run(150)
    if not atoms.get_temperature() < HOTTEST:
        raise RuntimeError(f"Dynamics of structure {index} exploded.")
    found = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    found.wrap()
    found.info |= {"config_type": KINDS[index % len(KINDS)], "trajectory": index, "temperature_K": temperature}
    return found


if __name__ == "__main__":
    first, last, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    for number in range(first, last):
        write(path, sampled(number), format="extxyz", append=True)
