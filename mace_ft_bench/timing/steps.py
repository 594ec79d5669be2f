"""Steps to be timed: displaced atoms evaluated again, and Langevin dynamics. Knows ASE calculators, never MACE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

from mace_ft_bench.errors import UnstableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms
    from ase.calculators.calculator import Calculator

_EXPLODED = 10.0
"""Multiple of the temperature of the thermostat at which a trajectory has come apart."""


def displaced_step(
    atoms: Atoms, calculator: Calculator, *, amplitude: float = 0.005, seed: int = 0, stress: bool = False
) -> Callable[[], None]:
    """Return what a step of molecular dynamics asks of a calculator: new positions, energy and forces.

    Atoms stay near their sites, so that no step contains the build of a list with a skin.

    Parameters
    ----------
    atoms
        Sites; they are not modified.
    calculator
        Any ASE calculator.
    amplitude
        Standard deviation of every coordinate [Angstrom]; the default is about the way of a femtosecond at room
        temperature.
    seed
        Of the displacements.
    stress
        Whether the stress is asked for, as a barostat does.
    """
    moving = atoms.copy()
    moving.calc = calculator
    rng = np.random.default_rng(seed)

    def step() -> None:
        moving.positions = atoms.positions + rng.normal(scale=amplitude, size=atoms.positions.shape)
        moving.get_forces()
        moving.get_potential_energy()
        if stress:
            moving.get_stress()

    return step


@dataclass(frozen=True)
class Thermostat:
    """A Langevin thermostat; the defaults are those of the tutorial's timings."""

    temperature_k: float = 300.0
    timestep_fs: float = 1.0
    friction_per_fs: float = 0.01


def langevin(atoms: Atoms, thermostat: Thermostat, *, seed: int) -> Langevin:
    """Return dynamics of atoms that have velocities."""
    return Langevin(
        atoms,
        thermostat.timestep_fs * units.fs,
        temperature_K=thermostat.temperature_k,
        friction=thermostat.friction_per_fs / units.fs,
        rng=np.random.default_rng(seed),
        fixcm=False,
    )


def langevin_steps(
    atoms: Atoms, calculator: Calculator, thermostat: Thermostat, *, steps: int, seed: int = 0
) -> Callable[[], None]:
    """Return a function that continues one trajectory by so many steps, lists and all.

    It raises :class:`~mace_ft_bench.errors.UnstableError` when the trajectory has come apart.

    Parameters
    ----------
    atoms
        The start; it is not modified.
    calculator
        Any ASE calculator.
    thermostat
        Also the temperature of the first velocities.
    steps
        Steps of every call.
    seed
        Of velocities and thermostat: the same start for every calculator.
    """
    moving = atoms.copy()
    moving.calc = calculator
    thermalize_momenta(moving, thermostat.temperature_k, rng=np.random.default_rng(seed))
    dynamics = langevin(moving, thermostat, seed=seed + 1)

    def proceed() -> None:
        dynamics.run(steps)
        reached = moving.get_temperature()
        if not reached < _EXPLODED * thermostat.temperature_k:  # also for nan
            raise UnstableError(
                f"The trajectory came apart: {reached:.0f} K, the thermostat is at {thermostat.temperature_k:g} K.",
                fix="time a model that covers the structure.",
            )

    return proceed
