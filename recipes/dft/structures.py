"""Structures of the small DFT sets: python structures.py SET OUT.xyz, SET being a key of SETS.

Small cells along paths whose energies people compare (volume, Bain path, shear, a frozen phonon), and cells with random
strains and displacements, all seeded; isolated atoms in boxes of three different edges, so that no symmetry hides the
ground state of an open shell.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SEED = 2026
MAGNETIC_MOMENTS = {
    "H": 1.0,
    "Li": 1.0,
    "C": 2.0,
    "O": 2.0,
    "F": 1.0,
    "Mg": 0.0,
    "Al": 1.0,
    "Si": 2.0,
    "Cl": 1.0,
    "Ga": 1.0,
    "Mo": 6.0,
    "Au": 1.0,
}
"""Of the ground states of the atoms."""


def scaled(atoms: Atoms, volumes: Sequence[float]) -> Iterator[Atoms]:
    """Yield the crystal at volumes relative to its own."""
    for volume in volumes:
        yield deformed(atoms, np.eye(3) * volume ** (1 / 3))


def sheared(atoms: Atoms, shears: Sequence[float]) -> Iterator[Atoms]:
    """Yield the crystal after volume-conserving shears of (001) along [100]."""
    for shear in shears:
        yield deformed(atoms, np.array([[1, 0, shear], [0, 1, 0], [0, 0, 1]]))


def stretched(atoms: Atoms, ratios: Sequence[float]) -> Iterator[Atoms]:
    """Yield the crystal after volume-conserving stretches along z, by the ratio of axes they end at."""
    for ratio in ratios:
        yield deformed(atoms, np.diag([ratio ** (-1 / 3), ratio ** (-1 / 3), ratio ** (2 / 3)]))


def frozen(atoms: Atoms, amplitudes: Sequence[float]) -> Iterator[Atoms]:
    """Yield a cell of two atoms with these moved against each other along z, by amplitudes [Angstrom] each."""
    for amplitude in amplitudes:
        frame = atoms.copy()
        frame.positions[:, 2] += [-amplitude, amplitude]
        yield frame


def displaced(atoms: Atoms, number: int, sigma: float, strain: float, seed: int = SEED) -> Iterator[Atoms]:
    """Yield copies with normally distributed displacements [Angstrom] and random symmetric strains."""
    generator = np.random.default_rng([seed, len(atoms), *atoms.numbers[:2]])
    for _ in range(number):
        random = generator.uniform(-strain, strain, (3, 3))
        frame = deformed(atoms, np.eye(3) + (random + random.T) / 2)
        frame.positions += generator.normal(0.0, sigma, frame.positions.shape)
        yield frame


def deformed(atoms: Atoms, gradient: np.ndarray) -> Atoms:
    """Return the crystal under a deformation gradient."""
    frame = atoms.copy()
    frame.set_cell(atoms.cell.array @ gradient.T, scale_atoms=True)
    return frame


def isolated(symbol: str) -> Atoms:
    """Return one atom in a box."""
    atom = Atoms(symbol, cell=[9.0, 9.3, 9.6], pbc=True, magmoms=[MAGNETIC_MOMENTS[symbol]])
    atom.center()
    return atom


def isolated_atoms(*symbols: str) -> dict[str, Iterator[Atoms]]:
    """Return one group, of isolated atoms."""
    return {"isolated-atom": iter([isolated(symbol) for symbol in symbols])}


def molybdenum() -> dict[str, Iterator[Atoms]]:
    """Return groups of frames of bcc Mo and what becomes of it along the Bain path, where c/a of sqrt(2) is fcc.

    All are of cubic cells: on meshes of the primitive cell energies still scatter by 15 meV/atom at 14x14x14.
    """
    cubic = bulk("Mo", "bcc", a=3.16, cubic=True)
    return {
        "energy-volume": scaled(cubic, (0.82, 0.88, 0.94, 1.0, 1.06, 1.12, 1.2)),
        "bain": stretched(cubic, (0.85, 0.93, 1.08, 1.2, 2**0.5, 1.6)),
        "shear": sheared(cubic, (0.05, 0.1, 0.2)),
        "phonon-h": frozen(cubic, (0.03, 0.1)),
        "displaced-2": displaced(cubic, 4, 0.12, 0.04),
        "displaced-4": displaced(cubic.repeat((2, 1, 1)), 3, 0.12, 0.04),
    }


def silicon() -> dict[str, Iterator[Atoms]]:
    """Return groups of frames of diamond and beta-tin Si."""
    primitive = bulk("Si", "diamond", a=5.47)
    cubic = bulk("Si", "diamond", a=5.47, cubic=True)
    beta_tin = Atoms(
        "Si4",
        scaled_positions=[(0, 0, 0), (0, 0.5, 0.25), (0.5, 0.5, 0.5), (0.5, 0, 0.75)],
        cell=[4.81, 4.81, 2.65],
        pbc=True,
    )
    return {
        "energy-volume": scaled(primitive, (0.82, 0.88, 0.94, 1.0, 1.06, 1.12, 1.2)),
        "beta-tin": scaled(beta_tin, (0.88, 0.94, 1.0, 1.06, 1.12)),
        "shear": sheared(primitive, (0.02, 0.05, 0.1, 0.2)),
        "displaced-2": displaced(primitive, 8, 0.15, 0.04),
        "displaced-4": displaced(beta_tin, 4, 0.15, 0.04),
        "displaced-8": displaced(cubic, 4, 0.15, 0.03),
    }


def rock_salt(first: str, second: str, a: float) -> dict[str, Iterator[Atoms]]:
    """Return groups of frames of a crystal of the rock-salt structure, and of the CsCl structure it turns to."""
    primitive = bulk(first + second, "rocksalt", a=a)
    tetragonal = primitive.repeat((2, 1, 1))
    return {
        "energy-volume": scaled(primitive, (0.82, 0.88, 0.94, 1.0, 1.06, 1.12, 1.2)),
        "caesium-chloride": scaled(bulk(first + second, "cesiumchloride", a=a * 0.596), (0.9, 1.0, 1.1)),
        "shear": sheared(primitive, (0.02, 0.05, 0.1, 0.2)),
        "displaced-2": displaced(primitive, 8, 0.12, 0.04),
        "displaced-4": displaced(tetragonal, 6, 0.12, 0.04),
    }


def rock_salt_to_train(first: str, second: str, a: float) -> dict[str, Iterator[Atoms]]:
    """Return other strained and displaced cells of the crystal, to train with what the cells above are to test."""
    primitive = bulk(first + second, "rocksalt", a=a)
    return {
        "displaced-2": displaced(primitive, 6, 0.12, 0.06, SEED + 1),
        "displaced-4": displaced(primitive.repeat((2, 1, 1)), 6, 0.12, 0.06, SEED + 1),
    }


SETS: dict[str, Callable[[], dict[str, Iterator[Atoms]]]] = {
    "mo": molybdenum,
    "mo-atoms": lambda: isolated_atoms("Mo"),
    "si": silicon,
    "si-atoms": lambda: isolated_atoms("Si"),
    "licl": lambda: rock_salt("Li", "Cl", 5.15),
    "licl-atoms": lambda: isolated_atoms("Li", "Cl"),
    "graphene-water-atoms": lambda: isolated_atoms("H", "C", "O"),
    "mgo": lambda: rock_salt("Mg", "O", 4.25),
    "mgo-train": lambda: rock_salt_to_train("Mg", "O", 4.25),
    "mgo-atoms": lambda: isolated_atoms("Mg", "O"),
    "au2-mgo-atoms": lambda: isolated_atoms("O", "Mg", "Al", "Au"),
    "licl-gaf3-atoms": lambda: isolated_atoms("Li", "F", "Cl", "Ga"),
}


def frames_of(name: str) -> list[Atoms]:
    """Return the frames of a set, each with its group."""
    found = []
    for group, members in SETS[name]().items():
        for frame in members:
            frame.info["config_type"] = group
            found.append(frame)
    return found


if __name__ == "__main__":
    write(sys.argv[2], frames_of(sys.argv[1]), format="extxyz")
