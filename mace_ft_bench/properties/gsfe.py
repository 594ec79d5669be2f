"""Generalised stacking fault energy of a tilted, fully periodic block.

The third cell vector is tilted by a fraction of the slip vector while the atoms stay where they are, so that the two
half crystals slip past each other at the cell boundary: one fault per cell and no free surface. Which pair of layers
the boundary lies between can be chosen: the lowest layers are moved to their next images. V. Vitek, Phil. Mag.
18, 773 (1968), doi 10.1080/14786436808227500.

The tilt is applied in the cell as given. A cell with a left-handed set of vectors is not standardised: for a path
without mirror symmetry, such as {121}<111> in bcc, that would reverse the curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase.constraints import FixedLine

from mace_ft_bench.errors import DataError, StructureError
from mace_ft_bench.properties.base import Property, evaluate
from mace_ft_bench.properties.checks import require, require_crystal, require_finite, require_positive
from mace_ft_bench.properties.relax import MAX_STEPS, relaxed_together
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import EV_PER_A2_IN_J_PER_M2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms
    from ase.calculators.calculator import Calculator

_MIN_POINTS = 3  # both ends and one fault
_LAYER = 0.1  # Angstrom; atoms nearer along the normal are of one layer


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of a generalised stacking fault energy."""

    slip_vector: tuple[float, float, float]
    """Slip from the first to the last point, in fractions of the cell vectors; it lies in the fault plane."""
    layers_below: int = 0
    """Layers of atoms below the fault, counted from the lowest of the cell; 0 leaves it at the boundary of the cell.
    Where layers are not equally spaced this chooses the plane: shuffle or glide in diamond (111)."""
    points: int = 12
    """Number of points, both ends included: the fractions are k / (points - 1)."""
    relax: Literal["none", "normal"] = "none"
    """Whether the atoms may move along the normal of the fault plane, at a fixed cell."""
    fmax: float = 1e-3
    """Convergence of the relaxation [eV/Angstrom]; the energy is of second order in it."""
    max_steps: int = MAX_STEPS
    """Limit on the number of steps at every point."""

    def __post_init__(self) -> None:
        require_positive(self, "fmax", "max_steps")
        require(self.points >= _MIN_POINTS, f"points = {self.points} is too few.", fix="12 gives steps of 1/11.")
        require(self.layers_below >= 0, f"layers_below = {self.layers_below} is negative.", fix="use 0, 1, ...")
        require(all(np.isfinite(self.slip_vector)), "slip_vector is not finite.", fix="give three numbers.")
        in_plane = self.slip_vector[2] == 0 and any(self.slip_vector[:2])
        fix = "use the first two cell vectors only, for example [0.0, 1.0, 0.0]."
        require(in_plane, f"slip_vector = {self.slip_vector} is not in the fault plane or is zero.", fix=fix)


@dataclass(frozen=True)
class Result:
    """A curve along one slip vector."""

    displacement: tuple[float, ...]
    """Fractions of the slip vector, from 0 to 1."""
    gamma_j_per_m2: tuple[float, ...]
    barrier_j_per_m2: float
    """Highest point of the curve."""
    area_angstrom2: float
    """Area of the fault in the cell."""


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Compute the curve.

    Raises
    ------
    StructureError
        If the block is not periodic in three dimensions, or has no more layers than are to be below the fault.
    UnconvergedError, UnstableError
        If the relaxation of a point fails, or an energy is not finite.
    """
    require_crystal(atoms, "A stacking fault")
    block = _with_boundary_above(settings.layers_below, atoms)
    fractions = np.linspace(0, 1, settings.points)
    energies = np.array(_energies([_tilted(block, fraction, settings) for fraction in fractions], calc, settings))
    require_finite(energies, "an energy")
    area = float(np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1])))
    gamma = (energies - energies[0]) / area * EV_PER_A2_IN_J_PER_M2
    return Result(
        displacement=tuple(fractions.tolist()),
        gamma_j_per_m2=tuple(gamma.tolist()),
        barrier_j_per_m2=float(gamma.max()),
        area_angstrom2=area,
    )


def _with_boundary_above(layers: int, atoms: Atoms) -> Atoms:
    """Return a copy whose lowest layers are moved to their next images: the boundary then lies above their places."""
    moved: Atoms = atoms.copy()
    if layers == 0:
        return moved
    normal = np.cross(atoms.cell[0], atoms.cell[1])
    normal *= np.sign(normal @ atoms.cell[2]) / np.linalg.norm(normal)
    heights = atoms.positions @ normal
    order = np.argsort(heights)
    number = np.cumsum(np.diff(heights[order], prepend=heights[order[0]]) > _LAYER)
    if layers > number[-1]:
        raise StructureError(
            f"The block has {number[-1] + 1} layers, of which {layers} cannot be below the fault.",
            fix="lower layers_below, or build a higher block.",
        )
    moved.positions[order[number < layers]] += atoms.cell[2]
    return moved


def _tilted(atoms: Atoms, fraction: float, settings: Settings) -> Atoms:
    """Return a copy whose third cell vector is tilted; Cartesian positions are those of ``atoms``."""
    frame: Atoms = atoms.copy()
    cell = atoms.cell.array.copy()
    cell[2] += fraction * np.asarray(settings.slip_vector) @ atoms.cell.array
    frame.set_cell(cell, scale_atoms=False)
    return frame


def _energies(frames: list[Atoms], calc: Calculator, settings: Settings) -> list[float]:
    """Energies [eV]; every point relaxes from the rigid one, so that no point depends on another."""
    if settings.relax == "none":
        return [item.energy for item in evaluate(calc, frames, stress=False)]
    for frame in frames:
        normal = np.cross(frame.cell[0], frame.cell[1])
        frame.set_constraint(FixedLine(range(len(frame)), normal))
    final = relaxed_together(frames, calc, fmax=settings.fmax, max_steps=settings.max_steps)
    return [float(frame.get_potential_energy()) for frame in final]


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return errors against ``gamma_j_per_m2`` of the reference.

    ``barrier_j_per_m2`` (signed) of the highest point, ``end_j_per_m2`` (signed) of the last, which is a stable fault
    where the slip vector is that of a partial dislocation, and ``curve_rms_j_per_m2``.

    Raises
    ------
    DataError
        If the reference curve has another number of points.
    """
    if "gamma_j_per_m2" not in reference:
        known = "barrier_j_per_m2" in reference
        return {"barrier_j_per_m2": result.barrier_j_per_m2 - reference["barrier_j_per_m2"]} if known else {}
    curve, expected = np.array(result.gamma_j_per_m2), np.array(reference["gamma_j_per_m2"], dtype=float)
    if curve.shape != expected.shape:
        raise DataError(
            f"The curve has {curve.size} points and the reference has {expected.size}.",
            fix=f"set points = {expected.size} in the case.",
        )
    return {
        "barrier_j_per_m2": result.barrier_j_per_m2 - float(expected.max()),
        "end_j_per_m2": float(curve[-1] - expected[-1]),
        "curve_rms_j_per_m2": float(np.sqrt(np.mean((curve - expected) ** 2))),
    }


PROPERTY = Property(name="gsfe", version=1, settings=Settings, result=Result, compute=compute, compare=compare)
