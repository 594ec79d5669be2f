"""From one parent structure to labelled frames."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from ase.optimize import FIRE

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.datasets.perturb import PerturbSettings, frame_seed, perturb_one
from mace_ft_bench.errors import StructureError

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mace_ft_bench.learning.parent import Parent
    from mace_ft_bench.learning.recipe import FamilyConfig

_KEPT_EVERY = 4
"""Steps of a relaxation from one kept frame to the next."""
_LONGEST_STEP = 0.15
"""Of a relaxation [Angstrom]."""
_CLOSEST = 0.55
"""Distance below which atoms are not put by a perturbation, in sums of covalent radii."""
_LEAST_VOLUME = 2.5
"""Volume per atom [Angstrom^3] below which a structure is refused: a teacher would find so many neighbours that memory
runs out."""


@dataclass
class Harvest:
    """Frames of a parent, and what came to nothing."""

    frames: list[Atoms] = field(default_factory=list)
    refused: int = 0
    """Structures that are too dense, or which the teacher or the perturbation refused."""
    violent: int = 0
    """Frames beyond the largest force."""


class Labeller:
    """Labels structures of one parent with a teacher.

    Parameters
    ----------
    teacher
        Calculator with energy, forces and stress.
    correction
        Energy per atom [eV] that its energies contain and the labels shall not.
    max_force
        Frames with a larger force [eV/Angstrom] are left out.
    config_type
        Group of the frames.
    """

    def __init__(self, teacher: Calculator, correction: float, max_force: float, config_type: str) -> None:
        self._teacher = teacher
        self._correction = correction
        self._max_force = max_force
        self._config_type = config_type
        self.harvest = Harvest()

    def label(self, structure: Atoms) -> float:
        """Keep the labelled structure; return its energy per atom [eV], infinite where it was left out."""
        if structure.get_volume() < _LEAST_VOLUME * len(structure):
            self.harvest.refused += 1
            return math.inf
        atoms = structure.copy()
        atoms.calc = self._teacher
        try:
            energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        except StructureError:
            self.harvest.refused += 1
            return math.inf
        if np.abs(forces).max() > self._max_force:
            self.harvest.violent += 1
            return math.inf
        raw = energy - self._correction * len(atoms)
        self.harvest.frames.append(
            labelled(atoms, energy=raw, forces=forces, stress=stress, config_type=self._config_type)
        )
        return float(energy) / len(atoms)


def harvest(  # noqa: PLR0913 - a parent, its settings, and those of the recipe
    parent: Parent, settings: FamilyConfig, teacher: Calculator, *, correction: float, max_force: float, seed: int
) -> Harvest:
    """Return labelled frames of a parent structure.

    Parameters
    ----------
    parent
        The structure.
    settings
        What becomes of it.
    teacher
        Calculator with energy, forces and stress.
    correction
        Energy per atom [eV] to take out of the teacher's.
    max_force
        Frames with a larger force [eV/Angstrom] are left out.
    seed
        Of the perturbations.
    """
    labeller = Labeller(teacher, correction, max_force, parent.family)
    atoms = _at_best_volume(parent.atoms, settings.volumes, labeller)
    if settings.relax_steps:
        atoms = _relaxed(atoms, settings.relax_steps, teacher, labeller, known=bool(settings.volumes))
    if settings.frames:
        atoms = repeated(atoms, settings.least_atoms)
        how = PerturbSettings(
            rattle=settings.rattle, strain=settings.strain, min_distance_factor=_CLOSEST, config_type=parent.family
        )
        for number in range(settings.frames):
            try:
                labeller.label(perturb_one(atoms, how, frame_seed(seed, 0, number)))
            except StructureError:
                labeller.harvest.refused += 1
    return labeller.harvest


def _at_best_volume(atoms: Atoms, volumes: tuple[float, ...], labeller: Labeller) -> Atoms:
    energies = {}
    for volume in volumes:
        scaled = atoms.copy()
        scaled.set_cell(atoms.cell.array * volume ** (1 / 3), scale_atoms=True)
        energies[volume] = (labeller.label(scaled), scaled)
    energy, best = min(energies.values(), key=lambda item: item[0], default=(math.inf, atoms))
    return best if math.isfinite(energy) else atoms  # with every volume refused the first is no better than another


def _relaxed(atoms: Atoms, steps: int, teacher: Calculator, labeller: Labeller, *, known: bool) -> Atoms:
    """Relax, and label every few steps; the start unless it is ``known``."""
    moving: Atoms = atoms.copy()
    moving.calc = teacher
    optimiser = FIRE(moving, logfile=None, maxstep=_LONGEST_STEP)
    try:
        for step, _ in enumerate(optimiser.irun(fmax=0.02, steps=steps)):
            if step % _KEPT_EVERY == 0 and not (known and step == 0):
                labeller.label(moving)
    except StructureError:
        labeller.harvest.refused += 1
    moving.calc = None
    return moving


def repeated(atoms: Atoms, least: int) -> Atoms:
    """Return the cell, its shortest vector doubled until it has enough atoms.

    Parameters
    ----------
    atoms
        A periodic cell.
    least
        Fewest atoms to return.
    """
    while len(atoms) < least:
        shortest = int(atoms.cell.lengths().argmin())
        atoms = atoms * tuple(2 if axis == shortest else 1 for axis in range(3))
    return atoms
