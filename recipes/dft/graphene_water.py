"""Structures of graphene and water, by python graphene_water.py FIRST LAST MODEL OUT.xyz.

Every structure is the end of a trajectory of its own at 300 to 450 K: a sheet of 16 C atoms (4.93 x 8.54 Angstrom)
under a film of 4 to 12 molecules of water, the same without vacuum, so that water lies between two sheets, a periodic
box of 8 molecules, or the sheet alone. It starts from molecules turned at random and is relaxed a little. The model is
any that `mfb models list` shows, with D3: an early one for the first structures, one fine-tuned on these for the next.
Hydrogen has a mass of 3 u, which lets steps be of 1 fs and changes no average over positions. Structure i depends on i
and the model alone, so that more can be added at the end.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import molecule
from trajectory import end_of_trajectory, write_sampled

SEED = 2026
FILM, CONFINED, BOX, SHEET = "interface", "confined", "water", "sheet"
KINDS = (FILM, CONFINED, BOX, FILM, CONFINED, FILM, SHEET, BOX, FILM, CONFINED)
MOLECULES = (4, 6, 8, 10, 12, 4, 5, 6, 7, 8, 4, 5, 6, 7, 8)
"""Few thick films, which take DFT long; the boxes show what water inside a film sees."""
TEMPERATURES = (300, 350, 400, 450)
"""[K]"""
LATTICE_CONSTANT = 2.466
"""Of graphene in PBE [Angstrom]."""
SHEET_HEIGHT, GAP, LAYER, VACUUM = 1.5, 3.3, 3.0, 7.5
"""Of the sheet in the cell, from it to the first layer of the film, between layers, and above the film [Angstrom]."""
GRID = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
"""Places of a layer's molecules, in edges of the cell."""
SPACING = 3.105
"""Of molecules in a box of water at 1 g/cm^3 [Angstrom]."""
CLOSEST, TRIES = 1.3, 1000
"""Distance of atoms of two molecules at the start [Angstrom], and attempts at it."""
LONGEST = 1.3
"""O-H bond beyond which a structure is not used [Angstrom]."""


def sheet() -> Atoms:
    """Return a flat sheet in an orthogonal cell."""
    a, b = LATTICE_CONSTANT, np.sqrt(3) * LATTICE_CONSTANT
    heights = np.array([1 / 6, 5 / 6, 1 / 3, 2 / 3]) * b
    positions = [[x, y, SHEET_HEIGHT] for x, y in zip((0.0, 0.0, a / 2, a / 2), heights, strict=True)]
    return Atoms("C4", positions=positions, cell=[a, b, 1.0], pbc=True).repeat((2, 2, 1))


def film_sites(cell: np.ndarray, molecules: int) -> np.ndarray:
    """Return places of molecules [Angstrom] in layers of four above a sheet."""
    layer, place = np.divmod(np.arange(molecules), len(GRID))
    across = (GRID[place] + 0.25 * (layer % 2)[:, None]) * cell[:2]
    return np.column_stack([across, SHEET_HEIGHT + GAP + LAYER * layer + 0.4 * (np.arange(molecules) % 2)])


def with_water(atoms: Atoms, sites: np.ndarray, generator: np.random.Generator) -> Atoms:
    """Return the atoms and a molecule near each site, moved and turned until it touches no other molecule."""
    film = Atoms(cell=atoms.cell, pbc=True)
    for site in sites:
        film = _joined(film, site, generator)
    return atoms + film


def _joined(film: Atoms, site: np.ndarray, generator: np.random.Generator) -> Atoms:
    for _ in range(TRIES):
        water = molecule("H2O")
        water.rotate(generator.uniform(0, 360), generator.normal(size=3))
        water.translate(site + generator.normal(0, 0.15, 3) - water.positions[0])
        both = film + water
        between = both.get_all_distances(mic=True)[: len(film), len(film) :]
        if between.min(initial=np.inf) > CLOSEST:
            return both
    raise RuntimeError(f"No orientation of a molecule at {site} keeps {CLOSEST} Angstrom.")


def start(index: int, generator: np.random.Generator) -> Atoms:
    """Return where a trajectory begins."""
    kind, molecules = KINDS[index % len(KINDS)], MOLECULES[(index + index // len(MOLECULES)) % len(MOLECULES)]
    if kind == BOX:
        edge = 2 * SPACING * generator.uniform(0.97, 1.04)
        sites = edge * (0.25 + 0.5 * np.indices((2, 2, 2)).reshape(3, -1).T)
        return with_water(Atoms(cell=[edge] * 3, pbc=True), sites, generator)
    carbon = sheet()
    width, length = carbon.cell.lengths()[:2]
    strained = carbon.cell.lengths()[:2] * generator.uniform(0.985, 1.015, 2)
    if kind == SHEET:
        carbon.set_cell([*strained, 10.0], scale_atoms=True)
        carbon.positions[:, 2] = SHEET_HEIGHT
        return carbon
    sites = film_sites(np.array([width, length]), molecules)
    top = sites[:, 2].max() - SHEET_HEIGHT
    carbon.set_cell([width, length, top + (GAP if kind == CONFINED else GAP + VACUUM)])
    return with_water(carbon, sites, generator)


def sampled(index: int, model: str) -> Atoms:
    """Return the end of a trajectory."""
    generator = np.random.default_rng([SEED, index])
    atoms = start(index, generator)
    temperature = TEMPERATURES[(index // len(KINDS)) % len(TEMPERATURES)]
    atoms.set_masses([3.0 if symbol == "H" else None for symbol in atoms.symbols])
    found = end_of_trajectory(atoms, model, temperature, generator, dispersion="pbe")
    refuse_broken(found, index)
    found.info |= {"config_type": KINDS[index % len(KINDS)], "trajectory": index}
    return found


def refuse_broken(atoms: Atoms, index: int) -> None:
    """Raise RuntimeError if a hydrogen atom left its oxygen atom."""
    hydrogen, oxygen = (np.flatnonzero(atoms.symbols == symbol) for symbol in ("H", "O"))
    bonds = atoms.get_all_distances(mic=True)[np.ix_(hydrogen, oxygen)].min(axis=1, initial=np.inf)
    if bonds.max(initial=0.0) > LONGEST:
        raise RuntimeError(f"A molecule of structure {index} came apart.")


if __name__ == "__main__":
    write_sampled(sampled)
