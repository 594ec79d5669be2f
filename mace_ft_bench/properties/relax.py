"""Relaxation of positions and cell, as a property and as the first step of others.

The optimiser is L-BFGS without line search, on the positions and the logarithm of the deformation gradient
(:class:`ase.filters.FrechetCellFilter`). It reads forces and stresses only: the energy of a float32 model is too noisy
for a line search (BFGSLineSearch stalls above 1e-4 eV/Angstrom with CHGNet), and FIRE needs up to ten times the steps.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS

from mace_ft_bench.errors import StructureError, UnconvergedError, UnstableError
from mace_ft_bench.properties.base import Property, evaluate
from mace_ft_bench.properties.checks import percent_errors, require, require_finite, require_positive
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import EV_PER_A3_IN_GPA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator

StrainMask: TypeAlias = tuple[bool, bool, bool, bool, bool, bool]

FMAX = 1e-4
"""Default largest force [eV/Angstrom]; CHGNet in float32 reaches 1e-5 on 2 to 8 atoms and 1e-4 on 53 with a vacancy."""

MAX_STEPS = 500
"""Default limit on the number of steps."""

ALL_STRAINS: StrainMask = (True, True, True, True, True, True)

_MAX_VOLUME_RATIO = 2.0  # beyond it the crystal that was asked for no longer exists
_CUBIC_TOLERANCE = 1e-3  # relative; far above the rounding of structure files, far below a real distortion


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of a relaxation."""

    fmax: float = FMAX
    """Largest norm of the force on an atom [eV/Angstrom] and of a row of virial / number of atoms [eV]. For 16
    Angstrom^3 per atom the default holds every stress below 0.001 GPa."""
    max_steps: int = MAX_STEPS
    """Limit on the number of steps."""
    cell: bool = True
    """Whether the cell is relaxed as well."""
    mask: StrainMask = ALL_STRAINS
    """Strain components (xx, yy, zz, yz, xz, xy) that are free if the cell is relaxed."""
    constant_volume: bool = False
    """Whether a relaxing cell keeps its volume and changes its shape only."""

    def __post_init__(self) -> None:
        require_positive(self, "fmax", "max_steps")
        require(any(self.mask) or not self.cell, "mask frees no strain.", fix="set cell = false instead.")
        idle = self.constant_volume and not self.cell
        require(not idle, "constant_volume does nothing where cell = false.", fix="set one of them.")


@dataclass(frozen=True)
class Result:
    """A relaxed structure."""

    a_angstrom: float | None
    """Mean length of the cell vectors [Angstrom] if the cell was cubic at the start, else None."""
    volume_angstrom3_per_atom: float
    energy_ev_per_atom: float
    residual_fmax_ev_per_angstrom: float
    """Largest norm of a force."""
    residual_stress_gpa: float | None
    """Largest absolute stress component; None if the calculator has no stress."""
    steps: int
    lengths_angstrom: tuple[float, float, float]
    angles_degree: tuple[float, float, float]


def relaxed(  # noqa: PLR0913 - each keyword is one physical choice
    atoms: Atoms,
    calc: Calculator,
    *,
    cell: bool,
    fmax: float = FMAX,
    max_steps: int = MAX_STEPS,
    mask: StrainMask = ALL_STRAINS,
    constant_volume: bool = False,
) -> Atoms:
    """Return a relaxed copy that carries its energy, forces and stress.

    Parameters
    ----------
    atoms
        Start; not modified. Its constraints are obeyed.
    calc
        Calculator with forces, and stress if ``cell``.
    cell
        Whether the cell is relaxed as well.
    fmax
        Largest norm of a force [eV/Angstrom] and of a row of virial / number of atoms [eV].
    max_steps
        Limit on the number of steps.
    mask
        Free strain components in Voigt order (xx, yy, zz, yz, xz, xy).
    constant_volume
        Whether a relaxing cell keeps its volume.

    Returns
    -------
    Atoms
        With a ``SinglePointCalculator``: a later call of ``calc`` cannot change its values.

    Raises
    ------
    UnconvergedError
        If ``max_steps`` is reached.
    UnstableError
        If energies or forces stop being finite, or the volume changes by more than a factor of two.
    StructureError
        If ``cell`` is asked for and there are fewer than three cell vectors.
    """
    settings = Settings(fmax=fmax, max_steps=max_steps, cell=cell, mask=mask, constant_volume=constant_volume)
    return _relax(atoms, calc, settings)[0]


def relaxed_together(frames: Sequence[Atoms], calc: Calculator, *, fmax: float, max_steps: int) -> list[Atoms]:
    """Relax the positions of many structures at fixed cells, side by side: every step is one batch of evaluations.

    Each has an optimiser of its own and ends where :func:`relaxed` would have ended, to rounding.

    Parameters
    ----------
    frames
        Starts; not modified. Their constraints are obeyed.
    calc, fmax, max_steps
        As in :func:`relaxed`, which names the errors raised.

    Returns
    -------
    list of Atoms
        In the order given, each with a ``SinglePointCalculator``.
    """
    moving: list[Atoms] = [frame.copy() for frame in frames]
    optimisers = [LBFGS(atoms, logfile=None) for atoms in moving]  # type: ignore[arg-type]  # as in _relax
    stress = "stress" in calc.implemented_properties
    left = list(range(len(moving)))
    for step in range(max_steps + 1):
        for index, found in zip(left, evaluate(calc, [moving[index] for index in left], stress=stress), strict=True):
            atoms = moving[index]
            atoms.calc = SinglePointCalculator(atoms, energy=found.energy, forces=found.forces, stress=found.stress)
            _check_intact(atoms, frames[index])
        left = [index for index in left if _largest_force(moving[index]) >= fmax]
        if not left:
            return moving
        if step < max_steps:
            for index in left:
                optimisers[index].step()
    raise UnconvergedError(_describe_unconverged(moving[left[0]], max_steps), fix="raise max_steps or fmax.")


def relaxed_from_rattled(
    atoms: Atoms, calc: Calculator, *, rattle: float, fmax: float, max_steps: int
) -> tuple[Atoms, float]:
    """Relax positions, at a fixed cell, from randomly displaced ones, so that symmetry can break.

    Parameters
    ----------
    atoms
        Not modified.
    calc
        Calculator with forces.
    rattle
        Standard deviation of the displacements [Angstrom]; their seed is fixed.
    fmax, max_steps
        As in :func:`relaxed`, which names the errors raised.

    Returns
    -------
    Atoms
        The relaxed copy.
    float
        Largest distance of an atom from where it was in ``atoms`` [Angstrom].
    """
    start = atoms.copy()
    start.rattle(rattle, seed=0)
    final = relaxed(start, calc, cell=False, fmax=fmax, max_steps=max_steps)
    return final, float(np.linalg.norm(final.positions - atoms.positions, axis=1).max())


def evaluated(atoms: Atoms, calc: Calculator) -> Atoms:
    """Return a copy that carries its energy, forces and, if the calculator has it, stress."""
    final: Atoms = atoms.copy()
    final.calc = calc
    values: dict[str, Any] = {
        "energy": final.get_potential_energy(),
        "forces": final.get_forces(apply_constraint=False),
    }
    if final.cell.rank == 3 and "stress" in calc.implemented_properties:  # noqa: PLR2004 - three dimensions
        values["stress"] = final.get_stress(apply_constraint=False)
    final.calc = SinglePointCalculator(final, **values)
    return final


def lattice_constant(atoms: Atoms, *, start: Atoms) -> float | None:
    """Return the mean length of the cell vectors [Angstrom] if the cell of ``start`` is cubic, else None."""
    cell = start.cell.standard_form()[0]
    cubic = np.allclose(cell, cell[0, 0] * np.eye(3), rtol=0, atol=_CUBIC_TOLERANCE * cell[0, 0])
    return float(atoms.cell.lengths().mean()) if cubic else None


def max_stress_gpa(atoms: Atoms) -> float | None:
    """Return the largest absolute stress component [GPa] stored with a relaxed structure, None if there is none."""
    stress = atoms.calc.results.get("stress")
    return None if stress is None else float(np.abs(stress).max()) * EV_PER_A3_IN_GPA


def _relax(atoms: Atoms, calc: Calculator, settings: Settings) -> tuple[Atoms, int]:
    if settings.cell and atoms.cell.rank < 3:  # noqa: PLR2004 - three dimensions
        raise StructureError(
            "The cell of a structure without three cell vectors cannot relax.", fix="set cell = false."
        )
    moving = atoms.copy()
    moving.calc = calc
    target: Any = moving
    if settings.cell:
        target = FrechetCellFilter(moving, mask=list(settings.mask), constant_volume=settings.constant_volume)
    optimiser = LBFGS(target, logfile=None)  # type: ignore[arg-type]  # ASE's annotation forgets None
    converged = False
    with warnings.catch_warnings():
        # Of the logarithm of the deformation, where scipy finds an error of 1e-12: far below any convergence here.
        warnings.filterwarnings("ignore", message="logm result may be inaccurate", category=RuntimeWarning)
        for converged in optimiser.irun(fmax=settings.fmax, steps=settings.max_steps):  # noqa: B007 - the last counts
            _check_intact(moving, atoms)
    final = evaluated(moving, calc)
    if not converged:
        raise UnconvergedError(_describe_unconverged(final, optimiser.nsteps), fix="raise max_steps or fmax.")
    return final, int(optimiser.nsteps)


def _check_intact(atoms: Atoms, start: Atoms) -> None:
    require_finite([atoms.get_potential_energy(), *atoms.get_forces().ravel()], "an energy or a force")
    ratio = atoms.cell.volume / start.cell.volume if start.cell.rank == 3 else 1.0  # noqa: PLR2004 - three dimensions
    if not 1 / _MAX_VOLUME_RATIO < ratio < _MAX_VOLUME_RATIO:
        raise UnstableError(
            f"The volume changed by a factor of {ratio:.3g} during the relaxation.",
            fix="start nearer to the equilibrium of this model; if you did, the model does not hold the crystal.",
        )


def _describe_unconverged(atoms: Atoms, steps: int) -> str:
    stress = max_stress_gpa(atoms)
    parts = [f"force {_largest_force(atoms):.2g} eV/Angstrom"]
    parts += [] if stress is None else [f"stress {stress:.2g} GPa"]
    return f"The relaxation did not converge in {steps} steps: {', '.join(parts)} remain."


def _largest_force(atoms: Atoms) -> float:
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Relax a structure; see :func:`relaxed` for the errors raised."""
    final, steps = _relax(atoms, calc, settings)
    lengths, angles = final.cell.lengths(), final.cell.angles()
    return Result(
        a_angstrom=lattice_constant(final, start=atoms),
        volume_angstrom3_per_atom=float(final.cell.volume) / len(final),
        energy_ev_per_atom=float(final.get_potential_energy()) / len(final),
        residual_fmax_ev_per_angstrom=_largest_force(final),
        residual_stress_gpa=max_stress_gpa(final),
        steps=steps,
        lengths_angstrom=(float(lengths[0]), float(lengths[1]), float(lengths[2])),
        angles_degree=(float(angles[0]), float(angles[1]), float(angles[2])),
    )


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return ``a_percent`` and ``volume_percent``, signed, where the reference has the value."""
    fields = {"a_percent": "a_angstrom", "volume_percent": "volume_angstrom3_per_atom"}
    return percent_errors(result, reference, fields)


PROPERTY = Property(name="relaxation", version=1, settings=Settings, result=Result, compute=compute, compare=compare)
