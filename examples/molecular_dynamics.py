"""Molecular dynamics of bcc Mo at 300 K with the embedded model: a drop-in ASE script.

Run it with: python examples/molecular_dynamics.py [steps]
"""

from __future__ import annotations

import sys

import numpy as np
from ase.build import bulk
from ase.md.bussi import Bussi
from ase.md.velocitydistribution import thermalize_momenta
from ase.units import fs

from mace_ft_bench import get_calculator

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 500
rng = np.random.default_rng(0)

atoms = bulk("Mo", a=3.17, cubic=True) * (3, 3, 3)
atoms.calc = get_calculator("mo-ft", dtype="float32")
thermalize_momenta(atoms, temperature_K=600, rng=rng)  # half of it goes into potential energy

dynamics = Bussi(atoms, timestep=2 * fs, temperature_K=300, taut=50 * fs, rng=rng)
print("step  T [K]  E_pot [eV/atom]")
for step in range(0, steps, 50):
    print(f"{step:4d}  {atoms.get_temperature():5.0f}  {atoms.get_potential_energy() / len(atoms):.4f}")
    dynamics.run(min(50, steps - step))
print(f"{steps:4d}  {atoms.get_temperature():5.0f}  {atoms.get_potential_energy() / len(atoms):.4f}")
