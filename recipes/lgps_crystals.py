"""Crystals of Li10GeP2S12 for recipes/lgps-student.distill.toml, by python lgps_crystals.py OUT.xyz.

Lithium, germanium and phosphorus are ordered at random; the volume goes from slightly compressed to what a hot melt
takes. Nothing of them comes from the DFT frames.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
from ase.io import write

from mace_ft_bench.learning.environments import ion_conductors

if TYPE_CHECKING:
    from ase import Atoms

SEED = 2028
REPEATS = 4
COMPOSITION = "Ge2Li20P4S24"
VOLUMES = (0.98, 1.6)
"""Least and most, in units of the crystal's."""


def crystals() -> list[Atoms]:
    """Return crystals of the composition, each ordered and expanded its own way."""
    generator = np.random.default_rng(SEED)
    found = []
    for _ in range(REPEATS):
        for parent in ion_conductors(generator):
            if parent.atoms.get_chemical_formula() == COMPOSITION:
                atoms = parent.atoms.copy()
                low, high = VOLUMES
                expansion = low + (high - low) * generator.random() ** 2
                shape = np.eye(3) + generator.uniform(-0.03, 0.03, (3, 3))
                shape *= (expansion / np.linalg.det(shape)) ** (1 / 3)
                atoms.set_cell(atoms.cell.array @ shape, scale_atoms=True)
                found.append(atoms)
    return found


if __name__ == "__main__":
    write(sys.argv[1], crystals(), format="extxyz")
