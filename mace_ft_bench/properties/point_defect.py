"""Formation energy of a point defect in an elemental crystal: vacancy, interstitial, or several of them.

``E_defect - (N_defect / N) E_crystal`` at the volume of the perfect crystal. For several elements the energy depends
on chemical potentials, which no card here gives, so they are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from mace_ft_bench.errors import StructureError
from mace_ft_bench.properties.base import Property, evaluate
from mace_ft_bench.properties.checks import require, require_crystal, require_finite, require_positive
from mace_ft_bench.properties.relax import MAX_STEPS, relaxed, relaxed_from_rattled
from mace_ft_bench.toml_schema import StrictTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase.calculators.calculator import Calculator

Position = tuple[float, float, float]

_ON_SITE = 0.3
"""An atom to remove is this near to the place that is named [Angstrom]."""
_OVERLAP = 0.6
"""No atom is added nearer to another [Angstrom]: less than any bond, that of hydrogen included."""


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of a point defect.

    Places are fractions of the vectors of the cell that the case gives, not of the supercell.
    """

    repeat: tuple[int, int, int]
    """Supercell of the relaxed crystal."""
    remove: tuple[Position, ...] = ()
    """Places of the atoms to take out."""
    add: tuple[Position, ...] = ()
    """Places of atoms to put in."""
    rattle: float = 0.0
    """Standard deviation of random displacements [Angstrom] before the relaxation, for a defect whose symmetry has to
    break. Their seed is fixed."""
    relax: bool = True
    """Whether the atoms are relaxed around the defect, at a fixed cell."""
    fmax: float = 1e-2
    """Convergence of that relaxation [eV/Angstrom]; the energy is of second order in it."""
    max_steps: int = MAX_STEPS
    """Limit on the number of steps of every relaxation."""

    def __post_init__(self) -> None:
        require_positive(self, "fmax", "max_steps")
        require(min(self.repeat) > 0, f"repeat = {self.repeat} is not positive.", fix="give a supercell, as [3, 3, 3].")
        require(bool(self.remove or self.add), "There is no defect.", fix="give places to remove, to add, or both.")
        require(self.rattle >= 0, f"rattle = {self.rattle} is negative.", fix="use 0.0 or about 0.05.")
        require(self.relax or not self.rattle, "rattle does nothing where relax = false.", fix="set one of them.")


@dataclass(frozen=True)
class Result:
    """A defect."""

    formation_energy_ev: float
    """Relaxed, if the settings say so."""
    unrelaxed_ev: float
    atoms: int
    """In the supercell with the defect."""
    largest_displacement_angstrom: float
    """Of an atom, by the relaxation."""


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Compute the formation energy.

    Raises
    ------
    StructureError
        If the structure is no crystal or has several elements, no atom is where one is to be removed, or one is where
        another is to be added.
    UnconvergedError, UnstableError
        If a relaxation fails, or an energy is not finite.
    """
    require_crystal(atoms, "A defect")
    if len(set(atoms.symbols)) != 1:
        raise StructureError(
            f"{atoms.get_chemical_formula()} has several elements: the formation energy is not defined.",
            fix="use an elemental crystal.",
        )
    crystal = relaxed(atoms, calc, cell=True, max_steps=settings.max_steps)
    defect = with_defect(crystal, settings)
    perfect = crystal.get_potential_energy() / len(crystal) * len(defect)
    (start,) = evaluate(calc, [defect], stress=False)
    require_finite([start.energy], "an energy")
    energy, moved = start.energy, 0.0
    if settings.relax:
        final, moved = relaxed_from_rattled(
            defect, calc, rattle=settings.rattle, fmax=settings.fmax, max_steps=settings.max_steps
        )
        energy = final.get_potential_energy()
    return Result(
        formation_energy_ev=float(energy - perfect),
        unrelaxed_ev=float(start.energy - perfect),
        atoms=len(defect),
        largest_displacement_angstrom=moved,
    )


def with_defect(crystal: Atoms, settings: Settings) -> Atoms:
    """Return a supercell with the defect.

    Raises
    ------
    StructureError
        If no atom is where one is to be removed, one is to be removed twice, or added where another is.
    """
    supercell: Atoms = crystal.repeat(settings.repeat)
    gone = {atom_at(supercell, np.asarray(place) @ crystal.cell.array, place) for place in settings.remove}
    if len(gone) != len(settings.remove):
        raise StructureError("remove names one atom twice.", fix="name every atom once.")
    symbol = crystal.get_chemical_symbols()[0]
    added = np.reshape(settings.add, (-1, 3)) @ crystal.cell.array
    supercell = supercell[[index for index in range(len(supercell)) if index not in gone]]
    for position, place in zip(added, settings.add, strict=True):
        _refuse_overlap(supercell, position, place)
        supercell += Atoms(symbol, positions=[position])
    return supercell


def _refuse_overlap(supercell: Atoms, position: np.ndarray, place: Position) -> None:
    nearest = find_mic(supercell.positions - position, supercell.cell, supercell.pbc)[1].min()
    if nearest < _OVERLAP:
        raise StructureError(
            f"An atom is {nearest:.2f} Angstrom from {place}, where one is to be added.", fix="correct add or remove."
        )


def atom_at(supercell: Atoms, position: np.ndarray, place: Position) -> int:
    """Return the index of the atom at a position [Angstrom], up to periodicity; ``place`` is for the message.

    Raises
    ------
    StructureError
        If the nearest atom is further off than 0.3 Angstrom.
    """
    away = find_mic(supercell.positions - position, supercell.cell, supercell.pbc)[1]
    nearest = int(away.argmin())
    if away[nearest] > _ON_SITE:
        raise StructureError(
            f"No atom is at {place} of the cell: the nearest is {away[nearest]:.2f} Angstrom off.",
            fix="give fractions of the vectors of the cell that the case names.",
        )
    return nearest


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return ``formation_energy_ev`` and ``unrelaxed_ev``, result minus reference, where the reference has them."""
    names = ("formation_energy_ev", "unrelaxed_ev")
    return {name: getattr(result, name) - reference[name] for name in names if name in reference}


PROPERTY = Property(name="point_defect", version=1, settings=Settings, result=Result, compute=compute, compare=compare)
