"""Write the structures of this folder again: ``python reference_data/structures/build.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import graphene, make_supercell, molecule
from ase.geometry import get_distances
from ase.io import write
from scipy.spatial.transform import Rotation

from mace_ft_bench import get_calculator
from mace_ft_bench.learning.environments import ion_conductors
from mace_ft_bench.properties.relax import relaxed

HERE = Path(__file__).parent
APART = {"OO": 2.5, "HO": 1.7, "HH": 1.8, "CO": 3.0, "CH": 2.4}
"""Distances between molecules, at least [Angstrom]."""


def graphene_water() -> Atoms:
    """Return 32 C and 32 water molecules, placed at random one after another; the density of the layer is 1 g/cm^3."""
    generator = np.random.default_rng(128)
    sheet = graphene(a=2.46, vacuum=0.0)
    sheet.cell[2], sheet.pbc = (0, 0, 33.4), True
    atoms = make_supercell(sheet, [[4, 0, 0], [2, 4, 0], [0, 0, 1]])  # rectangular
    atoms.positions[:, 2] = 2.0
    while np.count_nonzero(atoms.symbols == "O") < 32:  # noqa: PLR2004
        water = molecule("H2O")
        water.positions = Rotation.random(rng=generator).apply(water.positions - water.positions[0])
        water.positions += [*(generator.random(2) @ atoms.cell[:2, :2]), 2.0 + generator.uniform(3.0, 13.6)]
        if fits(water, atoms):
            atoms += water
    atoms.wrap()
    return atoms


def fits(water: Atoms, atoms: Atoms) -> bool:
    """Whether a molecule keeps away from all atoms."""
    distances = get_distances(water.positions, atoms.positions, cell=atoms.cell, pbc=True)[1]
    least = [["".join(sorted(one + other)) for other in atoms.symbols] for one in water.symbols]
    return bool((distances > np.vectorize(APART.get)(least)).all())


def li10gep2s12() -> Atoms:
    """Return a cell of Li10GeP2S12 with Ge, P and Li ordered at random, its positions relaxed by lgps-ft."""
    atoms = next(ion_conductors(np.random.default_rng(0))).atoms
    final = relaxed(atoms, get_calculator("lgps-ft", device="cpu", dtype="float64"), cell=False, fmax=0.01)
    return Atoms(final.numbers, final.positions, cell=final.cell, pbc=True)


if __name__ == "__main__":
    for name, made in (("graphene-water-128", graphene_water()), ("li10gep2s12", li10gep2s12())):
        write(HERE / f"{name}.xyz", made, format="extxyz")
