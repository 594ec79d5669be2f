"""Energy of a symmetric tilt or twin grain boundary: a crystal and its mirror image, joined at a layer of atoms.

The mirror plane is the boundary: a block and its image share the cell in the plane, so nothing has to be strained. A
periodic cell holds two boundaries, both counted. Boundaries with a rigid shift between their grains are none of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from mace_ft_bench.errors import StructureError
from mace_ft_bench.properties.base import Property, evaluate
from mace_ft_bench.properties.checks import percent_errors, require, require_crystal, require_finite, require_positive
from mace_ft_bench.properties.relax import ALL_STRAINS, MAX_STEPS, StrainMask, relaxed
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import EV_PER_A2_IN_J_PER_M2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase.calculators.calculator import Calculator

_LAYER = 0.1  # Angstrom; atoms nearer along the normal are of one layer
_NORMAL = 1e-6  # relative; noise in the directions of cell vectors

STRAINS: Mapping[str, StrainMask] = MappingProxyType(
    {"all": ALL_STRAINS, "normal": (False, False, True, False, False, False)}
)
"""Strains of the cell that are free, once the normal of the boundary lies along z."""


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of a grain boundary. The case gives one grain: a block whose third vector is normal to the boundary."""

    relax: bool = True
    """Whether the atoms are relaxed. The crystal is, in any case."""
    cell: str = "normal"
    """Strains that relax with them: ``normal`` to the boundary, as between two large grains, ``all`` or ``none``."""
    rattle: float = 0.0
    """Standard deviation of random displacements [Angstrom] before the relaxation, for a boundary whose symmetry has to
    break. Their seed is fixed."""
    fmax: float = 1e-2
    """Convergence of that relaxation [eV/Angstrom]; the energy is of second order in it."""
    max_steps: int = MAX_STEPS
    """Limit on the number of steps of every relaxation."""

    def __post_init__(self) -> None:
        require_positive(self, "fmax", "max_steps")
        known = (*STRAINS, "none")
        require(self.cell in known, f'cell = "{self.cell}" is not known.', fix=f"use one of {', '.join(known)}.")
        require(self.rattle >= 0, f"rattle = {self.rattle} is negative.", fix="use 0.0 or about 0.05.")
        require(self.relax or not self.rattle, "rattle does nothing where relax = false.", fix="set one of them.")


@dataclass(frozen=True)
class Result:
    """Energy of a grain boundary, the mean over both of the cell."""

    boundary_energy_j_per_m2: float
    """Relaxed, if the settings say so, per area of the relaxed cell."""
    unrelaxed_j_per_m2: float
    area_angstrom2: float
    atoms: int
    """In the cell with both boundaries."""
    expansion_angstrom: float
    """By which one boundary widens the cell along its normal; 0 where the cell does not relax."""


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Compute the energy.

    Parameters
    ----------
    atoms
        One grain: a periodic block, several layers thick, whose third vector is normal to the first two.
    calc
        Any ASE calculator; with stress, if the cell relaxes.
    settings
        See :class:`Settings`.

    Raises
    ------
    StructureError
        If the block is no crystal, or its third vector is not normal to the other two.
    UnconvergedError, UnstableError
        If a relaxation fails, or an energy is not finite.
    """
    require_crystal(atoms, "A grain boundary")
    grain = relaxed(_along_z(atoms), calc, cell=True, max_steps=settings.max_steps)
    both = bicrystal(grain)
    (start,) = evaluate(calc, [both], stress=False)
    require_finite([start.energy], "an energy")
    final, energy = both, start.energy
    if settings.relax:
        final = _relaxed(both, calc, settings)
        energy = float(final.get_potential_energy())
    perfect = grain.get_potential_energy() / len(grain) * len(both)
    return Result(
        boundary_energy_j_per_m2=float(energy - perfect) / (2 * _area(final)) * EV_PER_A2_IN_J_PER_M2,
        unrelaxed_j_per_m2=float(start.energy - perfect) / (2 * _area(both)) * EV_PER_A2_IN_J_PER_M2,
        area_angstrom2=_area(final),
        atoms=len(both),
        expansion_angstrom=float(final.cell.volume / _area(final) - both.cell.volume / _area(both)) / 2,
    )


def _area(atoms: Atoms) -> float:
    return float(np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1])))


def _along_z(atoms: Atoms) -> Atoms:
    """Return a copy whose first vector lies along x and whose third is normal to the first two, along z."""
    turned: Atoms = atoms.copy()
    turned.calc = None
    normal = np.cross(atoms.cell[0], atoms.cell[1])
    axes = np.array([atoms.cell[0], np.cross(normal, atoms.cell[0]), normal])
    axes /= np.linalg.norm(axes, axis=1)[:, None]
    turned.set_cell(atoms.cell.array @ axes.T)
    turned.positions = atoms.positions @ axes.T
    height = abs(turned.cell[2, 2])
    if np.abs(turned.cell[2, :2]).max() > _NORMAL * height:
        raise StructureError(
            "The third vector of the block is not normal to the boundary.",
            fix="use directions that are at right angles, the third one normal to the plane.",
        )
    turned.cell[2] = (0.0, 0.0, height)
    return turned


def bicrystal(grain: Atoms) -> Atoms:
    """Return a grain and its mirror image; the normal is z.

    One mirror plane lies in the lowest layer of atoms, the other in the image of that layer one height further up, so
    that both boundaries share their layer between the grains.
    """
    height = grain.cell[2, 2]
    z = grain.positions[:, 2]
    z = (z - z.min() + _LAYER / 2) % height - _LAYER / 2
    lowest = z < _LAYER / 2
    lower, upper = grain.positions.copy(), grain.positions.copy()
    lower[:, 2] = z
    upper[:, 2] = np.where(lowest, height + z, 2 * height - z)
    cell = grain.cell.array.copy()
    cell[2, 2] = 2 * height
    return Atoms([*grain.symbols, *grain.symbols], positions=np.vstack([lower, upper]), cell=cell, pbc=True)


def _relaxed(both: Atoms, calc: Calculator, settings: Settings) -> Atoms:
    start = both.copy()
    if settings.rattle:
        start.rattle(settings.rattle, seed=0)
    free = settings.cell != "none"
    mask = STRAINS.get(settings.cell, ALL_STRAINS)
    return relaxed(start, calc, cell=free, mask=mask, fmax=settings.fmax, max_steps=settings.max_steps)


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return ``boundary_energy_percent`` and ``unrelaxed_percent``, signed, where the reference has them."""
    fields = {"boundary_energy_percent": "boundary_energy_j_per_m2", "unrelaxed_percent": "unrelaxed_j_per_m2"}
    return percent_errors(result, reference, fields)


PROPERTY = Property(
    name="grain_boundary", version=1, settings=Settings, result=Result, compute=compute, compare=compare
)
