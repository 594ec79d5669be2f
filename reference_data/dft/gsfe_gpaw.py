"""Rigid stacking-fault energies of bcc Mo by GPAW: python gsfe_gpaw.py PLANE K [K...], for example 121 0 5.

The path of the cases molybdenum/gsfe-110 and gsfe-121 in a cell of one atom per layer: the cell vector out of the plane
is tilted by K/11 of b = a/2 [111], atoms are held fixed. Energies [eV], extrapolated to zero smearing, are appended to
gsfe_gpaw.txt. Needs gpaw and gpaw-data. What came out is in docs/reference/molybdenum.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from gpaw import GPAW, PW, FermiDirac, Mixer

A = 3.16
BURGERS = A / 2 * np.array([1, 1, 1])
PLANES = {
    # second vector in the plane, lattice vector to the next layer, layers, k-points
    "110": (A / 2 * np.array([1, -1, 1]), A / 2 * np.array([-1, 1, 1]), 4, (12, 12, 3)),
    "121": (A * np.array([-1, 0, 1]), A / 2 * np.array([1, -1, -1]), 6, (8, 12, 3)),
}


def block(plane: str, k: int) -> Atoms:
    """Return the block with its third cell vector tilted by k/11 of the Burgers vector."""
    second, step, layers, _ = PLANES[plane]
    stack = layers * step
    # The shortest of the equivalent vectors out of the plane.
    shifts = [stack + i * BURGERS + j * second for i in range(-20, 21) for j in range(-20, 21)]
    third = min(shifts, key=np.linalg.norm) + k / 11 * BURGERS
    positions = [layer * step for layer in range(layers)]
    return Atoms(f"Mo{layers}", positions=positions, cell=[second, BURGERS, third], pbc=True)


def energy(plane: str, k: int) -> float:
    """Return the energy of a point of the path [eV]."""
    atoms = block(plane, k)
    atoms.calc = GPAW(
        mode=PW(400),
        xc="PBE",
        kpts={"size": PLANES[plane][3], "gamma": True},
        occupations=FermiDirac(0.1),
        nbands="125%",
        mixer=Mixer(0.1, 5, 50),
        convergence={"energy": 1e-5, "density": 3e-4, "eigenstates": 1e-6},
        txt=f"{plane}-{k}.log",
    )
    return float(atoms.get_potential_energy())


if __name__ == "__main__":
    for point in map(int, sys.argv[2:]):
        with Path("gsfe_gpaw.txt").open("a", encoding="utf-8") as file:
            file.write(f"{sys.argv[1]} {point} {energy(sys.argv[1], point):.6f}\n")
