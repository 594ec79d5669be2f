"""Frames from short molecular dynamics with the teacher, or with a faster model whose frames the teacher labels."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ase.optimize import FIRE

from mace_ft_bench.datasets.sample import sample
from mace_ft_bench.datasets.sample_settings import SampleSettings
from mace_ft_bench.errors import CardError, StructureError
from mace_ft_bench.toml_schema import StrictTable

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mace_ft_bench.learning.label import Labeller
    from mace_ft_bench.learning.parent import Parent

_LONGEST_STEP = 0.15
"""Of a relaxation [Angstrom]."""
_SMALLEST_FORCE = 0.1
"""Where a relaxation before dynamics ends [eV/Angstrom]: it only takes out what would heat the run up."""


@dataclass(frozen=True)
class DynamicsConfig(StrictTable):
    """Short molecular dynamics of some parents."""

    parents: tuple[str, ...]
    """Names of parents, with * for anything."""
    temperatures_k: tuple[float, ...]
    """One run at each [K]."""
    steps: int = 200
    every: int = 20
    """Steps from one kept frame to the next."""
    relax_steps: int = 15
    """Steps downhill before."""
    least_atoms: int = 8
    """Cells are repeated until they have so many atoms."""
    timestep_fs: float = 2.0
    driver: str | None = None
    """Name of the model that moves the atoms; None for the teacher. A small one reaches frames further apart."""

    def __post_init__(self) -> None:
        if not self.parents or not self.temperatures_k or min(self.temperatures_k) <= 0:
            raise CardError("parents or temperatures_k is empty, or a temperature is not positive.", fix="name some.")
        if not 1 <= self.every <= self.steps or self.relax_steps < 0 or self.least_atoms < 1:
            raise CardError("steps, every, relax_steps or least_atoms is out of range.", fix="give, say, 200 and 20.")
        if not self.timestep_fs > 0:
            raise CardError(f"A timestep of {self.timestep_fs} fs is not positive.", fix="give, say, 2.0.")


def concerns(settings: DynamicsConfig, parent: Parent) -> bool:
    """Whether a parent is one of those that are run."""
    return any(fnmatchcase(parent.name, pattern) for pattern in settings.parents)


def run(atoms: Atoms, settings: DynamicsConfig, driver: Calculator, labeller: Labeller, *, seed: int) -> list[str]:
    """Label frames of dynamics at every temperature; return why runs ended early.

    Parameters
    ----------
    atoms
        Where to start, after a few steps downhill.
    settings
        What to run.
    driver
        Calculator that moves the atoms; with forces.
    labeller
        Receives the frames.
    seed
        Of velocities and thermostat.
    """
    stopped = []
    try:
        start = _relaxed(atoms, settings.relax_steps, driver)
        for number, temperature in enumerate(settings.temperatures_k):
            found = sample(
                start,
                driver,
                SampleSettings(
                    temperatures_k=(temperature,),
                    equilibration=0,
                    production=settings.steps,
                    spacing=settings.every,
                    interval=settings.every,
                    timestep_fs=settings.timestep_fs,
                    seed=seed + number,
                ),
            )
            for frame in found.frames:
                labeller.label(frame)
            if found.stopped:
                stopped.append(found.stopped)
    except StructureError as error:
        stopped.append(error.message)
    return stopped


def _relaxed(atoms: Atoms, steps: int, driver: Calculator) -> Atoms:
    moving: Atoms = atoms.copy()
    moving.calc = driver
    FIRE(moving, logfile=None, maxstep=_LONGEST_STEP).run(fmax=_SMALLEST_FORCE, steps=steps)
    moving.calc = None
    return moving
