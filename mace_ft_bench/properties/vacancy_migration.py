"""Barrier for an atom to jump into a vacancy, by a climbing-image nudged elastic band.

G. Henkelman, B. P. Uberuaga, H. Jonsson, J. Chem. Phys. 113, 9901 (2000), doi 10.1063/1.1329672; tangents of
G. Henkelman, H. Jonsson, J. Chem. Phys. 113, 9978 (2000), doi 10.1063/1.1323224; first path by image-dependent pair
potentials, S. Smidstrup et al., J. Chem. Phys. 140, 214106 (2014), doi 10.1063/1.4878664. All of it is ASE's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.mep import NEB
from ase.mep.neb import idpp_interpolate
from ase.optimize import FIRE

from mace_ft_bench.errors import StructureError, UnconvergedError, UnstableError
from mace_ft_bench.properties.base import Property
from mace_ft_bench.properties.checks import require, require_crystal, require_finite, require_positive
from mace_ft_bench.properties.point_defect import Position, atom_at
from mace_ft_bench.properties.relax import MAX_STEPS, relaxed
from mace_ft_bench.toml_schema import StrictTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms
    from ase.calculators.calculator import Calculator

_SAME_STATE = 0.3
"""Ends of which no atom is further apart are one state [Angstrom]."""


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of a migration. Places are fractions of the vectors of the cell that the case gives."""

    repeat: tuple[int, int, int]
    """Supercell of the relaxed crystal."""
    vacancy: Position
    """Place of the atom to take out."""
    jump_from: Position
    """Place of the atom that jumps into the vacancy."""
    images: int = 5
    """Images between the ends."""
    fmax: float = 0.02
    """Convergence of the band [eV/Angstrom]."""
    fmax_ends: float = 1e-3
    """Convergence of the relaxation of both ends [eV/Angstrom]."""
    max_steps: int = MAX_STEPS
    """Limit on the number of steps of every relaxation, that of the band included."""

    def __post_init__(self) -> None:
        require_positive(self, "fmax", "fmax_ends", "max_steps", "images")
        require(min(self.repeat) > 0, f"repeat = {self.repeat} is not positive.", fix="give a supercell, as [3, 3, 3].")
        require(self.vacancy != self.jump_from, "vacancy and jump_from are one place.", fix="name a neighbour.")


@dataclass(frozen=True)
class Result:
    """A path of lowest energy."""

    barrier_ev: float
    """Highest image, which climbed, above the start."""
    energy_difference_ev: float
    """End minus start; zero where both are equivalent."""
    path_ev: tuple[float, ...]
    """Energies of all images above the start, ends included."""
    path_angstrom: tuple[float, ...]
    """Length along the path, in the space of all atoms."""
    atoms: int
    steps: int


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Compute the barrier.

    Raises
    ------
    StructureError
        If the structure is no crystal, or no atom is at one of the places.
    UnconvergedError, UnstableError
        If a relaxation or the band fails, an energy is not finite, both ends relax into one state, or nothing between
        them is higher than they are.
    """
    require_crystal(atoms, "A migration")
    crystal = relaxed(atoms, calc, cell=True, max_steps=settings.max_steps)
    ends = [
        relaxed(end, calc, cell=False, fmax=settings.fmax_ends, max_steps=settings.max_steps)
        for end in before_and_after(crystal, settings)
    ]
    _refuse_one_state(ends)
    band, steps = _converged_band(ends, calc, settings)
    energies = np.array([image.get_potential_energy() for image in band.images])
    require_finite(energies, "an energy")
    moves = [np.linalg.norm(b.positions - a.positions) for a, b in zip(band.images, band.images[1:], strict=False)]
    relative = energies - energies[0]
    if relative[1:-1].max() <= max(relative[0], relative[-1]):
        raise UnstableError(
            f"No saddle point lies between the ends: the path reads {relative.round(3).tolist()} eV.",
            fix="raise images; if that does not help, one of the ends is no minimum of this model.",
        )
    return Result(
        barrier_ev=float(relative.max()),
        energy_difference_ev=float(relative[-1]),
        path_ev=tuple(relative.tolist()),
        path_angstrom=(0.0, *np.cumsum(moves).tolist()),
        atoms=len(ends[0]),
        steps=steps,
    )


def before_and_after(crystal: Atoms, settings: Settings) -> tuple[Atoms, Atoms]:
    """Return the supercells before and after the jump, atoms in the same order.

    Raises
    ------
    StructureError
        If no atom is at one of the places, or both are one atom.
    """
    supercell: Atoms = crystal.repeat(settings.repeat)
    supercell.calc = None
    hole, jumper = (
        atom_at(supercell, np.asarray(place) @ crystal.cell.array, place)
        for place in (settings.vacancy, settings.jump_from)
    )
    if hole == jumper:
        raise StructureError("vacancy and jump_from are one atom of the supercell.", fix="enlarge repeat.")
    after = supercell.copy()
    # The nearest image of the hole: a jump must not cross the cell.
    after.positions[jumper] += supercell.get_distance(jumper, hole, mic=True, vector=True)
    kept = [index for index in range(len(supercell)) if index != hole]
    return supercell[kept], after[kept]


def _refuse_one_state(ends: list[Atoms]) -> None:
    apart = np.linalg.norm(ends[1].positions - ends[0].positions, axis=1).max()
    if apart < _SAME_STATE:
        raise UnstableError(
            f"Both ends relaxed into one state: no atom is further apart than {apart:.2f} Angstrom.",
            fix="check that the model holds the crystal with its vacancy; choose another jump.",
        )


def _converged_band(ends: list[Atoms], calc: Calculator, settings: Settings) -> tuple[NEB, int]:
    images = [ends[0], *[ends[0].copy() for _ in range(settings.images)], ends[1]]
    band = NEB(images, climb=True, method="improvedtangent", allow_shared_calculator=True)
    band.interpolate(method="linear")  # along the jump as it was chosen: the nearest image of half a cell is ambiguous
    idpp_interpolate(band, traj=None, log=None, mic=True)
    for image in images[1:-1]:
        image.calc = calc
    optimiser = FIRE(band, logfile=None)
    if not optimiser.run(fmax=settings.fmax, steps=settings.max_steps):
        raise UnconvergedError(
            f"The elastic band did not converge in {optimiser.nsteps} steps.", fix="raise max_steps or fmax."
        )
    return band, int(optimiser.nsteps)


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return ``barrier_ev`` and ``path_rms_ev``, where the reference has ``barrier_ev`` and ``path_ev``.

    The curve of the reference, at equal steps from the start (0) to the end, is compared at the places of the images.
    """
    errors = {}
    if "barrier_ev" in reference:
        errors["barrier_ev"] = result.barrier_ev - reference["barrier_ev"]
    if "path_ev" in reference:
        place = np.array(result.path_angstrom) / result.path_angstrom[-1]
        expected = np.interp(place, np.linspace(0, 1, len(reference["path_ev"])), reference["path_ev"])
        errors["path_rms_ev"] = float(np.sqrt(np.mean((np.array(result.path_ev) - expected) ** 2)))
    return errors


PROPERTY = Property(
    name="vacancy_migration", version=2, settings=Settings, result=Result, compute=compute, compare=compare
)
