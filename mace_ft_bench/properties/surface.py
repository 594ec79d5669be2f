"""Surface energy of a slab cut from the relaxed crystal.

The crystal is cut where its layers are furthest apart. ``(E_slab - N e_bulk) / (2 A)`` is the mean over both faces of
the slab, which for a crystal of several elements has to be stoichiometric, as those of :func:`ase.build.surface` are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.build import surface

from mace_ft_bench.errors import StructureError
from mace_ft_bench.properties.base import Property, evaluate
from mace_ft_bench.properties.checks import percent_errors, require, require_crystal, require_finite, require_positive
from mace_ft_bench.properties.relax import MAX_STEPS, relaxed, relaxed_from_rattled
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import EV_PER_A2_IN_J_PER_M2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms
    from ase.calculators.calculator import Calculator


_EQUAL_GAPS = 1e-4
"""Difference of gaps between layers, in units of the spacing of the lattice planes, that is noise."""


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of a surface energy."""

    miller: tuple[int, int, int]
    """Miller indices, of the cell that the case gives."""
    thickness: float = 15.0
    """The slab is at least this thick [Angstrom]."""
    vacuum: float = 15.0
    """Empty space between the slab and its image [Angstrom]; beyond the model's cutoff it changes nothing."""
    repeat: tuple[int, int] = (1, 1)
    """Repetitions in the plane, for a reconstruction that needs them."""
    rattle: float = 0.0
    """Standard deviation of random displacements [Angstrom] before the relaxation, for a surface whose symmetry has to
    break. Their seed is fixed."""
    relax: bool = True
    """Whether the atoms of the slab are relaxed. The crystal is, in any case."""
    fmax: float = 1e-2
    """Convergence of the relaxation of the slab [eV/Angstrom]; the energy is of second order in it."""
    max_steps: int = MAX_STEPS
    """Limit on the number of steps of every relaxation."""

    def __post_init__(self) -> None:
        require_positive(self, "thickness", "vacuum", "fmax", "max_steps")
        require(any(self.miller), "miller is (0, 0, 0).", fix="give the indices of a plane.")
        require(min(self.repeat) > 0, f"repeat = {self.repeat} is not positive.", fix="use [1, 1].")
        require(self.rattle >= 0, f"rattle = {self.rattle} is negative.", fix="use 0.0 or about 0.05.")
        require(self.relax or not self.rattle, "rattle does nothing where relax = false.", fix="set one of them.")


@dataclass(frozen=True)
class Result:
    """Energy of a surface, the mean over both faces."""

    surface_energy_j_per_m2: float
    """Relaxed, if the settings say so."""
    unrelaxed_j_per_m2: float
    area_angstrom2: float
    layers: int
    """Repetitions of the cell along the normal."""
    atoms: int
    largest_displacement_angstrom: float
    """Of an atom, by the relaxation."""


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Compute the surface energy.

    Raises
    ------
    StructureError
        If the structure is no crystal, or ASE cannot cut it along that plane.
    UnconvergedError, UnstableError
        If a relaxation fails, or an energy is not finite.
    """
    require_crystal(atoms, "A surface")
    crystal = relaxed(atoms, calc, cell=True, max_steps=settings.max_steps)
    bulk_energy = crystal.get_potential_energy() / len(crystal)
    slab, layers = cut(crystal, settings)
    area = _area(slab)
    (start,) = evaluate(calc, [slab], stress=False)
    require_finite([start.energy], "an energy")
    energy, moved = start.energy, 0.0
    if settings.relax:
        final, moved = relaxed_from_rattled(
            slab, calc, rattle=settings.rattle, fmax=settings.fmax, max_steps=settings.max_steps
        )
        energy = final.get_potential_energy()
    excess = np.array([energy, start.energy]) - len(slab) * bulk_energy
    gammas = excess / (2 * area) * EV_PER_A2_IN_J_PER_M2
    return Result(
        surface_energy_j_per_m2=float(gammas[0]),
        unrelaxed_j_per_m2=float(gammas[1]),
        area_angstrom2=area,
        layers=layers,
        atoms=len(slab),
        largest_displacement_angstrom=moved,
    )


def cut(crystal: Atoms, settings: Settings) -> tuple[Atoms, int]:
    """Return a slab, periodic in three dimensions with vacuum between its images, and its number of layers.

    Raises
    ------
    StructureError
        If ASE cannot cut the crystal along that plane.
    """
    plain = _with_the_widest_gap_at_the_origin(crystal, settings.miller)
    try:
        one = surface(plain, settings.miller, 1, periodic=True)
        layers = math.ceil(settings.thickness / (one.cell.volume / _area(one)) - 1e-6)
        slab: Atoms = surface(plain, settings.miller, layers, periodic=True)
    except (ValueError, ZeroDivisionError) as error:
        raise StructureError(
            f"ASE cannot cut {crystal.get_chemical_formula()} along {settings.miller}: {error}.", fix="correct miller."
        ) from error
    slab = slab.repeat((*settings.repeat, 1))
    slab.center(vacuum=settings.vacuum / 2, axis=2)
    slab.pbc = True
    return slab, layers


def _with_the_widest_gap_at_the_origin(crystal: Atoms, miller: tuple[int, int, int]) -> Atoms:
    """Translate a crystal so that the plane through its origin lies half way between two layers of atoms.

    Otherwise the noise of a relaxed structure decides on which face the atoms of a layer at the origin end up.
    """
    shifted: Atoms = crystal.copy()
    shifted.calc = None
    indices = np.array(miller) // np.gcd.reduce(miller)
    heights = shifted.get_scaled_positions(wrap=False) @ indices
    layers = np.sort((heights + _EQUAL_GAPS) % 1 - _EQUAL_GAPS)  # noise must not carry a layer at 0 to the other end
    gaps = np.diff(layers, append=layers[0] + 1)
    widest = int(np.argmax(gaps > gaps.max() - _EQUAL_GAPS))  # the first of equal ones
    middle = layers[widest] + gaps[widest] / 2
    shifted.translate(-middle * indices / (indices @ indices) @ shifted.cell.array)
    return shifted


def _area(slab: Atoms) -> float:
    return float(np.linalg.norm(np.cross(slab.cell[0], slab.cell[1])))


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return ``surface_energy_percent`` and ``unrelaxed_percent``, signed, where the reference has them."""
    fields = {"surface_energy_percent": "surface_energy_j_per_m2", "unrelaxed_percent": "unrelaxed_j_per_m2"}
    return percent_errors(result, reference, fields)


PROPERTY = Property(name="surface", version=2, settings=Settings, result=Result, compute=compute, compare=compare)
