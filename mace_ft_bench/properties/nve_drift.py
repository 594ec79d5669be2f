"""Conservation of energy in molecular dynamics: a force that is no gradient, or a jump, shows as a drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet

from mace_ft_bench.errors import StructureError, UnstableError
from mace_ft_bench.properties.base import Property
from mace_ft_bench.properties.checks import require, require_finite, require_positive
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import MEV

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms
    from ase.calculators.calculator import Calculator

_EXPLODED = 10.0
"""Multiple of the temperature of the start at which a trajectory has come apart."""


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of a trajectory at constant energy."""

    repeat: tuple[int, int, int] = (1, 1, 1)
    """Supercell of the structure."""
    temperature: float = 600.0
    """Temperature of the first velocities [K]; at a minimum, half of it remains."""
    timestep: float = 1.0
    """Timestep [fs]."""
    steps: int = 1000
    """Number of steps."""
    seed: int = 0
    """Seed of the velocities."""

    def __post_init__(self) -> None:
        require_positive(self, "temperature", "timestep", "steps")
        require(self.seed >= 0, f"seed = {self.seed} is negative.", fix="use 0.")
        require(min(self.repeat) > 0, f"repeat = {self.repeat} is not positive.", fix="give a supercell, as [2, 2, 2].")


@dataclass(frozen=True)
class Result:
    """Total energy along a trajectory."""

    drift_mev_per_atom_per_ps: float
    """Slope of the straight line through the total energy."""
    fluctuation_mev_per_atom: float
    """Root mean square about that line; the Verlet scheme alone makes it grow with the square of the timestep."""
    mean_temperature_k: float
    time_ps: tuple[float, ...]
    total_energy_mev_per_atom: tuple[float, ...]
    """Above the first one."""


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Run molecular dynamics and follow the total energy.

    Raises
    ------
    UnstableError
        If the temperature rises tenfold, or an energy is not finite.
    StructureError
        If a single atom would move: its centre of mass is held.
    """
    moving = atoms.repeat(settings.repeat)
    if len(moving) == 1:
        raise StructureError("A single atom has nothing to move against.", fix="enlarge repeat.")
    moving.calc = calc
    generator = np.random.default_rng(settings.seed)
    thermalize_momenta(moving, settings.temperature, exact_temperature=True, rng=generator)
    Stationary(moving)
    dynamics = VelocityVerlet(moving, timestep=settings.timestep * units.fs)
    energies, temperatures = [], []
    for _ in dynamics.irun(settings.steps):
        energies.append(moving.get_total_energy())
        temperatures.append(moving.get_temperature())
        _check_intact(energies[-1], temperatures[-1], settings)
    time = np.arange(len(energies)) * settings.timestep / 1000
    relative = (np.array(energies) - energies[0]) / len(moving) * MEV
    slope, offset = np.polyfit(time, relative, 1)
    return Result(
        drift_mev_per_atom_per_ps=float(slope),
        fluctuation_mev_per_atom=float(np.sqrt(np.mean((relative - offset - slope * time) ** 2))),
        mean_temperature_k=float(np.mean(temperatures)),
        time_ps=tuple(time.tolist()),
        total_energy_mev_per_atom=tuple(relative.tolist()),
    )


def _check_intact(energy: float, temperature: float, settings: Settings) -> None:
    require_finite([energy], "an energy")
    if temperature > _EXPLODED * settings.temperature:
        raise UnstableError(
            f"The trajectory came apart: {temperature:.0f} K after a start at {settings.temperature:.0f} K.",
            fix="check that the structure lies within the model's range; lower timestep if atoms are light.",
        )


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return ``drift_mev_per_atom_per_ps``, result minus reference, if the reference has it: zero is exact."""
    name = "drift_mev_per_atom_per_ps"
    return {name: result.drift_mev_per_atom_per_ps - reference[name]} if name in reference else {}


PROPERTY = Property(name="nve_drift", version=1, settings=Settings, result=Result, compute=compute, compare=compare)
