"""Structures of the interface LiCl(001)/GaF3(001), by python licl_gaf3.py FIRST LAST MODEL OUT.xyz.

Every structure is the end of a trajectory of its own at 150 to 600 K: two layers of LiCl on two of GaF3, repeated
without vacuum, so that each cell has two interfaces. Three surface cells of GaF3 meet five of LiCl. In the common cell,
65 A^2, LiCl as PBE has it is strained by MISFIT along its principal axes; the published 368 atoms have 8 cells on 14.
GaF3 of a stack Ga, F3, Ga, F3 is polar; kind "polar" leaves it so, as the published one, in kind "split" one layer of
F3 is divided between its two faces. Structure i depends on i and the model alone, so that more can be added at the end.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.spacegroup import crystal
from trajectory import end_of_trajectory, write_sampled

SEED = 2028
KINDS = POLAR, SPLIT = "polar", "split"
TEMPERATURES = (150, 300, 450, 600)
"""[K]"""
GAF3_A, GAF3_C, GAF3_X, R3C = 5.04, 13.0, 0.405, 167
"""Lattice constants of GaF3 [Angstrom], the free coordinate of F, and the space group."""
LICL_A = 5.157
"""Lattice constant of LiCl in PBE [Angstrom]."""
GAF3_CELLS = [[1, 0, 0], [1, 3, 0], [0, 0, 1]]
LICL_CELLS = [[-1, -1, 0], [3, -2, 0], [0, 0, 1]]
MISFIT = (0.0157, -0.0227)
"""Principal strains of LiCl in the common cell."""
LAYERS, GAP = 2, 2.2
"""Of each crystal, and between them [Angstrom]."""


def gallium_fluoride(kind: str) -> Atoms:
    """Return two layers of Ga and of F3, from z = 0."""
    sites, cell = [(0, 0, 0), (GAF3_X, 0, 0.25)], [GAF3_A, GAF3_A, GAF3_C, 90, 90, 120]
    atoms = make_supercell(crystal(["Ga", "F"], sites, spacegroup=R3C, cellpar=cell), GAF3_CELLS)
    spacing = GAF3_C / 6
    atoms.positions[:, 2] = (atoms.positions[:, 2] + spacing / 4) % GAF3_C - spacing / 4
    atoms = atoms[atoms.positions[:, 2] < (LAYERS - 0.25) * spacing]
    if kind == SPLIT:
        top = np.flatnonzero(atoms.positions[:, 2] > (LAYERS - 0.75) * spacing)
        moved = top[np.argsort(atoms.get_scaled_positions()[top, 1])][::2]
        atoms.positions[moved, 2] -= LAYERS * spacing
    atoms.positions[:, 2] -= atoms.positions[:, 2].min()
    return atoms


def lithium_chloride(cell: np.ndarray) -> Atoms:
    """Return two layers of LiCl on a surface cell of the other crystal [Angstrom], from z = 0."""
    edge, layer = LICL_A / np.sqrt(2), LICL_A / 2
    positions = [(0, 0, 0), (edge / 2, edge / 2, 0), (edge / 2, edge / 2, layer), (0, 0, layer)]
    atoms = make_supercell(Atoms("LiClLiCl", positions=positions, cell=[edge, edge, LICL_A]), LICL_CELLS)
    atoms.set_cell([*cell[:2], (0, 0, LICL_A)], scale_atoms=True)
    return atoms


def start(index: int, generator: np.random.Generator) -> Atoms:
    """Return where a trajectory begins."""
    fluoride = gallium_fluoride(KINDS[index % len(KINDS)])
    chloride = lithium_chloride(fluoride.cell.array)
    bottom = np.ptp(fluoride.positions[:, 2]) + GAP
    shift = generator.uniform(0, 1, 2) @ fluoride.cell.array[:2]
    chloride.positions += shift + np.array([0, 0, bottom])
    atoms = fluoride + chloride
    height = bottom + np.ptp(chloride.positions[:, 2]) + GAP
    atoms.set_cell([*fluoride.cell.array[:2], (0, 0, height)])
    atoms.pbc = True
    strain = generator.uniform([0.985, 0.985, 0.97], [1.015, 1.015, 1.05])
    atoms.set_cell(atoms.cell.array * strain[:, None], scale_atoms=True)
    return atoms


def sampled(index: int, model: str) -> Atoms:
    """Return the end of a trajectory."""
    generator = np.random.default_rng([SEED, index])
    temperature = TEMPERATURES[(index // len(KINDS)) % len(TEMPERATURES)]
    found = end_of_trajectory(start(index, generator), model, temperature, generator)
    found.info |= {"config_type": KINDS[index % len(KINDS)], "trajectory": index}
    return found


if __name__ == "__main__":
    write_sampled(sampled)
