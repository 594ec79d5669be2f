"""Structures of two gold atoms on MgO(001), by python au2_mgo.py FIRST LAST MODEL OUT.xyz.

Every structure is the end of a trajectory of its own at 200 to 800 K: a slab of two layers and five surface cells, the
square of sqrt(5) x sqrt(5) (6.7 Angstrom), clean or with two of the five Mg below the surface replaced by Al, and a
dimer that stands on an O atom or lies. Two Al give the cell an even number of electrons. Structure i depends on i and
the model alone, so that more can be added at the end.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from trajectory import end_of_trajectory, write_sampled

SEED = 2027
UPRIGHT, FLAT = "upright", "flat"
KINDS = tuple((geometry, doping) for geometry in (UPRIGHT, FLAT) for doping in ("clean", "doped"))
TEMPERATURES = (200, 400, 600, 800)
"""[K]"""
LATTICE_CONSTANT = 4.26
"""Of MgO in PBE [Angstrom]."""
SURFACE_CELLS = [[2, 1, 0], [-1, 2, 0], [0, 0, 1]]
HEIGHT, BOTTOM = 14.0, 1.5
"""Of the cell, and of the lower layer in it [Angstrom]."""
ABOVE, BOND = 2.2, 2.55
"""Of gold above the slab, and of the dimer [Angstrom]."""
DOPANTS = 2
FARTHEST = 4.5
"""Distance of a gold atom from the nearest other atom beyond which the dimer has left or come apart [Angstrom]."""


def slab() -> Atoms:
    """Return two layers of MgO, O on Mg."""
    edge, layer = LATTICE_CONSTANT / np.sqrt(2), LATTICE_CONSTANT / 2
    lower, upper = BOTTOM, BOTTOM + layer
    positions = [(0, 0, lower), (edge / 2, edge / 2, lower), (edge / 2, edge / 2, upper), (0, 0, upper)]
    surface_cell = Atoms("MgOMgO", positions=positions, cell=[edge, edge, HEIGHT], pbc=True)
    return make_supercell(surface_cell, SURFACE_CELLS)


def dimer(geometry: str, site: np.ndarray, generator: np.random.Generator) -> Atoms:
    """Return gold above a site, standing or lying in any direction."""
    up = np.array([0.0, 0.0, 1.0])
    base = site + ABOVE * up
    angle = generator.uniform(0.0, 2 * np.pi)
    lying = np.array([np.cos(angle), np.sin(angle), 0.0]) * BOND / 2
    ends = [base, base + BOND * up] if geometry == UPRIGHT else [base - lying, base + lying]
    return Atoms("Au2", positions=ends)


def start(index: int, generator: np.random.Generator) -> Atoms:
    """Return where a trajectory begins."""
    geometry, doping = KINDS[index % len(KINDS)]
    atoms = slab()
    upper = atoms.positions[:, 2] > BOTTOM + 1.0
    if doping == "doped":
        replaceable = np.flatnonzero((atoms.symbols == "Mg") & ~upper)
        atoms.symbols[generator.choice(replaceable, DOPANTS, replace=False)] = "Al"
    oxygen = generator.choice(np.flatnonzero((atoms.symbols == "O") & upper))
    atoms += dimer(geometry, atoms.positions[oxygen], generator)
    strain = [*generator.uniform(0.985, 1.015, 2), 1.0]
    atoms.set_cell(atoms.cell.array * np.array(strain)[:, None], scale_atoms=True)
    return atoms


def sampled(index: int, model: str) -> Atoms:
    """Return the end of a trajectory."""
    generator = np.random.default_rng([SEED, index])
    geometry, doping = KINDS[index % len(KINDS)]
    temperature = TEMPERATURES[(index // len(KINDS)) % len(TEMPERATURES)]
    found = end_of_trajectory(start(index, generator), model, temperature, generator)
    gold = np.flatnonzero(found.symbols == "Au")
    distances = found.get_all_distances(mic=True)
    np.fill_diagonal(distances, np.inf)
    if distances[gold].min(axis=1).max() > FARTHEST:
        raise RuntimeError(f"Gold has left the surface in structure {index}.")
    found.info |= {"config_type": f"{geometry}-{doping}", "trajectory": index}
    return found


if __name__ == "__main__":
    write_sampled(sampled)
