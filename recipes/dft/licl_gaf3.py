"""Structures of the interface LiCl(001)/GaF3(001), by python licl_gaf3.py FIRST LAST MODEL OUT.xyz.

Two layers of LiCl on two of GaF3, repeated without vacuum, so that a cell has two interfaces; GaF3 is a polar stack
Ga, F3, Ga, F3, as in the published structure. Three surface cells of GaF3 meet five of LiCl. In the common cell,
65 A^2, LiCl as PBE has it is strained by MISFIT along its principal axes; the published 368 atoms have 8 cells on 14.
The model relaxes this once; every structure is the end of a trajectory of its own from there, at 150 to 600 K in a cell
strained by up to STRAIN. Structure i depends on i and the model alone, so that more can be added at the end.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.optimize import FIRE
from ase.spacegroup import crystal
from trajectory import end_of_trajectory, write_sampled

from mace_ft_bench import get_calculator

SEED = 2028
TEMPERATURES = (150, 300, 450, 600)
"""[K]"""
STRAIN = (0.015, 0.015, 0.02)
"""Of the cell vectors, either way."""
GAF3_A, GAF3_C, GAF3_X, R3C = 5.04, 13.0, 0.405, 167
"""Lattice constants of GaF3 [Angstrom], the free coordinate of F, and the space group."""
LICL_A = 5.157
"""Lattice constant of LiCl in PBE [Angstrom]."""
GAF3_CELLS = [[1, 0, 0], [1, 3, 0], [0, 0, 1]]
LICL_CELLS = [[-1, -1, 0], [3, -2, 0], [0, 0, 1]]
MISFIT = (0.0157, -0.0227)
"""Principal strains of LiCl in the common cell."""
LAYERS, GAP = 2, 2.65
"""Of each crystal, and between them [Angstrom]."""
SHIFT = (0.25, 0.05)
"""Of LiCl along the common cell: of five tried the one that relaxes to the lowest energy."""


def gallium_fluoride() -> Atoms:
    """Return two layers of Ga and of F3, from z = 0."""
    sites, cell = [(0, 0, 0), (GAF3_X, 0, 0.25)], [GAF3_A, GAF3_A, GAF3_C, 90, 90, 120]
    atoms = make_supercell(crystal(["Ga", "F"], sites, spacegroup=R3C, cellpar=cell), GAF3_CELLS)
    spacing = GAF3_C / 6
    atoms.positions[:, 2] = (atoms.positions[:, 2] + spacing / 4) % GAF3_C - spacing / 4
    atoms = atoms[atoms.positions[:, 2] < (LAYERS - 0.25) * spacing]
    atoms.positions[:, 2] -= atoms.positions[:, 2].min()
    return atoms


def lithium_chloride(cell: np.ndarray) -> Atoms:
    """Return two layers of LiCl on a surface cell of the other crystal [Angstrom], from z = 0."""
    edge, layer = LICL_A / np.sqrt(2), LICL_A / 2
    positions = [(0, 0, 0), (edge / 2, edge / 2, 0), (edge / 2, edge / 2, layer), (0, 0, layer)]
    atoms = make_supercell(Atoms("LiClLiCl", positions=positions, cell=[edge, edge, LICL_A]), LICL_CELLS)
    atoms.set_cell([*cell[:2], (0, 0, LICL_A)], scale_atoms=True)
    return atoms


def start() -> Atoms:
    """Return the interface before it is relaxed."""
    fluoride = gallium_fluoride()
    chloride = lithium_chloride(fluoride.cell.array)
    bottom = np.ptp(fluoride.positions[:, 2]) + GAP
    chloride.positions += np.array(SHIFT) @ fluoride.cell.array[:2] + np.array([0, 0, bottom])
    atoms = fluoride + chloride
    height = bottom + np.ptp(chloride.positions[:, 2]) + GAP
    atoms.set_cell([*fluoride.cell.array[:2], (0, 0, height)])
    atoms.pbc = True
    return atoms


@cache
def relaxed(model: str) -> Atoms:
    """Return the interface as the model has it, in the cell it began with."""
    atoms = start()
    atoms.calc = get_calculator(model)
    FIRE(atoms, logfile=None).run(fmax=0.05, steps=500)
    return atoms


def sampled(index: int, model: str) -> Atoms:
    """Return the end of a trajectory."""
    generator = np.random.default_rng([SEED, index])
    atoms = relaxed(model).copy()
    strain = 1 + generator.uniform(-1, 1, 3) * STRAIN
    atoms.set_cell(atoms.cell.array * strain[:, None], scale_atoms=True)
    found = end_of_trajectory(atoms, model, TEMPERATURES[index % len(TEMPERATURES)], generator)
    found.info |= {"config_type": "interface", "trajectory": index}
    return found


if __name__ == "__main__":
    write_sampled(sampled)
