"""Crystals whose answers are known: springs between neighbours, and calculators that misbehave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.morse import MorsePotential
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress

if TYPE_CHECKING:
    from ase import Atoms

VOIGT = np.array([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)])


class Springs(Calculator):
    """Harmonic springs between the neighbour shells of a crystal, every one at its rest length.

    Parameters
    ----------
    crystal
        Reference; the bonds keep their atoms and images however the crystal is deformed.
    constants
        Spring constant [eV/Angstrom^2] of each shell, nearest first.
    """

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, crystal: Atoms, constants: list[float]) -> None:
        super().__init__()
        i, j, image, length = neighbor_list("ijSd", crystal, 1.5 * crystal.cell.lengths().max())
        shells = np.unique(length.round(6))[: len(constants)]
        shell = np.abs(length[:, None] - shells).argmin(axis=1)
        bonded = np.abs(length - shells[shell]) < 1e-4
        self.i, self.j, self.image, self.rest = i[bonded], j[bonded], image[bonded], length[bonded]
        self.k = np.array(constants)[shell[bonded]]
        self.crystal = crystal.copy()

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        """Fill ``results``."""
        super().calculate(atoms, properties, system_changes)
        bond = atoms.positions[self.j] - atoms.positions[self.i] + self.image @ atoms.cell.array
        length = np.linalg.norm(bond, axis=1)
        pull = (self.k * (length - self.rest) / length)[:, None] * bond
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, self.i, pull)
        self.results = {
            "energy": 0.25 * float(np.sum(self.k * (length - self.rest) ** 2)),  # each bond is listed twice
            "forces": forces,
            "stress": full_3x3_to_voigt_6_stress(0.5 * pull.T @ bond / atoms.cell.volume),
        }

    def affine_stiffness(self) -> np.ndarray:
        """Return the exact 6 x 6 stiffness [eV/Angstrom^3] without internal relaxation: sum of k r^2 nnnn / V."""
        bond = self.crystal.positions[self.j] - self.crystal.positions[self.i] + self.image @ self.crystal.cell.array
        direction = bond / self.rest[:, None]
        pairs = direction[:, VOIGT[:, 0]] * direction[:, VOIGT[:, 1]]
        return np.einsum("n,na,nb->ab", 0.5 * self.k * self.rest**2, pairs, pairs) / self.crystal.cell.volume


class Recorder(Calculator):
    """Energy from a function of the structure, zero forces and stress; keeps a copy of every structure it saw."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, energy=lambda _atoms: 0.0, stress=0.0) -> None:
        super().__init__()
        self.energy, self.stress, self.seen = energy, stress, []

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        """Fill ``results``."""
        super().calculate(atoms, properties, system_changes)
        self.seen.append(atoms.copy())
        self.results = {
            "energy": self.energy(atoms),
            "forces": np.zeros((len(atoms), 3)),
            "stress": np.array([self.stress] * 3 + [0.0] * 3),
        }


@pytest.fixture(scope="session")
def springs():
    return Springs


@pytest.fixture(scope="session")
def recorder():
    return Recorder


@pytest.fixture
def copper():
    """Fcc copper near the lattice constant of EMT, conventional cell."""
    return bulk("Cu", "fcc", a=3.6, cubic=True)


@pytest.fixture(scope="session")
def morse():
    """Short-ranged pair potential with a nearest-neighbour distance like that of Mo."""
    return MorsePotential(epsilon=0.5, r0=2.8, rho0=4.0, rcut1=1.3, rcut2=1.6)
