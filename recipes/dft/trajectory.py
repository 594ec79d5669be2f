"""The end of a short trajectory, as a structure to label."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ase import Atoms, units
from ase.io import write
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import FIRE

from mace_ft_bench import get_calculator

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

STEPS = 500
"""Of dynamics, 1 fs each."""
HOTTEST = 1500.0
"""Temperature beyond which a structure is not used [K]."""


def end_of_trajectory(
    atoms: Atoms, model: str, temperature: float, generator: np.random.Generator, *, dispersion: str | None = None
) -> Atoms:
    """Return a structure, without calculator and masses, after a little relaxation and dynamics at a temperature [K].

    The model is any that ``mfb models list`` shows, or a file. RuntimeError if the dynamics exploded.
    """
    atoms.calc = get_calculator(model, dispersion=dispersion)
    FIRE(atoms, logfile=None).run(fmax=0.3, steps=100)
    thermalize_momenta(atoms, temperature, rng=generator)
    LangevinBAOAB(atoms, 1.0 * units.fs, temperature_K=temperature, T_tau=50 * units.fs, rng=generator).run(STEPS)
    if not atoms.get_temperature() < HOTTEST:
        raise RuntimeError(f"The dynamics exploded: {atoms.get_temperature():.0f} K after {STEPS} steps.")
    found = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    found.wrap()
    found.info |= {"temperature_K": temperature, "sampled_by": model}
    return found


def write_sampled(sampled: Callable[[int, str], Atoms]) -> None:
    """Append structures to a file; the command line says FIRST LAST MODEL OUT.xyz."""
    first, last, model, path = sys.argv[1:]
    for index in range(int(first), int(last)):
        write(path, sampled(index, model), format="extxyz", append=True)
