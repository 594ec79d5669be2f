"""What makes the steps of sampling: Langevin dynamics, and swaps of unlike atoms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from ase import units
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.velocitydistribution import thermalize_momenta

from mace_ft_bench.errors import CardError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms

    from mace_ft_bench.datasets.sample_settings import SampleSettings


class ExplodedError(Exception):
    """The run cannot go on."""


class Walker(Protocol):
    """What makes steps."""

    energy: float

    @property
    def acceptance(self) -> float:
        """Share of steps accepted so far; nan where none is refused."""

    def set_temperature(self, kelvin: float) -> None:
        """Change the target [K]."""

    def step(self) -> None:
        """Make one step, and update the energy."""

    def kinetic_temperature(self) -> float:
        """Return the kinetic temperature [K]; nan without velocities."""

    def state(self) -> dict[str, np.ndarray]:
        """Return what a continuation needs beside positions, cell and random numbers."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up a state."""


class Dynamics:
    """Langevin dynamics, at constant volume or pressure."""

    acceptance = math.nan

    def __init__(self, atoms: Atoms, settings: SampleSettings, generator: np.random.Generator) -> None:
        temperature = settings.temperatures_k[0]
        thermalize_momenta(atoms, temperature, rng=generator)
        barostat: dict[str, Any] = {}
        if settings.ensemble == "npt":
            tau = settings.barostat_fs * units.fs
            # The mass of Martyna, Tobias and Klein, doi 10.1063/1.467468.
            mass = 3 * (len(atoms) + 1) * units.kB * temperature * tau**2
            barostat = {"externalstress": -settings.pressure_gpa * units.GPa, "P_tau": tau, "P_mass": mass}
        self._atoms = atoms
        self._dynamics = LangevinBAOAB(
            atoms,
            settings.timestep_fs * units.fs,
            temperature_K=temperature,
            T_tau=units.fs / settings.friction_per_fs,
            hydrostatic=True,
            rng=generator,
            **barostat,
        )
        self._kept = ("accel", "p_eps", "force_eps") if barostat else ("accel",)
        self.energy = float(atoms.get_potential_energy())

    def set_temperature(self, kelvin: float) -> None:
        """Change the target [K]."""
        self._dynamics.set_temperature(kelvin)

    def step(self) -> None:
        """Make one step, and update the energy."""
        self._dynamics.step()
        self.energy = float(self._atoms.get_potential_energy())
        if not np.isfinite(self._dynamics.accel).all():
            raise ExplodedError("a force is not finite")

    def kinetic_temperature(self) -> float:
        """Return the kinetic temperature [K]; nan without velocities."""
        return float(self._atoms.get_temperature())

    def state(self) -> dict[str, np.ndarray]:
        """Return what a continuation needs beside positions, cell and random numbers."""
        own = {name: np.asarray(getattr(self._dynamics, name)) for name in self._kept}
        return own | {"momenta": self._atoms.get_momenta()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up a state."""
        self._atoms.set_momenta(state["momenta"], apply_constraint=False)
        for name in self._kept:
            value = state[name]
            setattr(self._dynamics, name, float(value) if value.ndim == 0 else value)


class Swaps:
    """Exchange two unlike atoms, chosen uniformly among the pairs of unlike atoms of a uniformly chosen first one.

    A swap and its reverse are proposed equally often, because the numbers of atoms of every element stay the same.
    """

    def __init__(self, atoms: Atoms, settings: SampleSettings, generator: np.random.Generator) -> None:
        if len(set(atoms.numbers.tolist())) == 1:
            raise CardError("There are no unlike atoms to swap.", fix='use the ensemble "nvt" or "npt".')
        self._atoms = atoms
        self._generator = generator
        self.set_temperature(settings.temperatures_k[0])
        self._tried = self._accepted = 0
        self.energy = float(atoms.get_potential_energy())

    @property
    def acceptance(self) -> float:
        """Share of steps accepted so far; nan where none is refused."""
        return self._accepted / max(self._tried, 1)

    def set_temperature(self, kelvin: float) -> None:
        """Change the target [K]."""
        self._kt = units.kB * kelvin

    def step(self) -> None:
        """Make one step, and update the energy."""
        first = int(self._generator.integers(len(self._atoms)))
        second = int(self._generator.choice(np.flatnonzero(self._atoms.numbers != self._atoms.numbers[first])))
        self._exchange(first, second)
        energy = float(self._atoms.get_potential_energy())
        self._tried += 1
        chance = math.exp(min((self.energy - energy) / self._kt, 0.0)) if math.isfinite(energy) else 1.0
        if self._generator.random() < chance:
            self.energy = energy  # also where it is not finite: the run must end there
            self._accepted += 1
        else:
            self._exchange(first, second)

    def _exchange(self, first: int, second: int) -> None:
        self._atoms.positions[[first, second]] = self._atoms.positions[[second, first]]

    def kinetic_temperature(self) -> float:
        """Return the kinetic temperature [K]; nan without velocities."""
        return math.nan

    def state(self) -> dict[str, np.ndarray]:
        """Return what a continuation needs beside positions, cell and random numbers."""
        return {"counts": np.array([self._tried, self._accepted]), "energy_now": np.array(self.energy)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up a state."""
        self._tried, self._accepted = state["counts"].tolist()
        self.energy = float(state["energy_now"])
