"""Equation of state: energy against volume, fitted by the third-order Birch-Murnaghan form.

The fit is :class:`ase.eos.EquationOfState`; F. Birch, Phys. Rev. 71, 809 (1947), doi 10.1103/PhysRev.71.809.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.eos import EquationOfState, birchmurnaghan
from scipy.optimize import OptimizeWarning

from mace_ft_bench.errors import UnconvergedError
from mace_ft_bench.properties.base import Property, evaluate
from mace_ft_bench.properties.checks import percent_errors, require, require_finite, require_positive
from mace_ft_bench.properties.relax import FMAX, MAX_STEPS, relaxed, relaxed_together
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import EV_PER_A3_IN_GPA, MEV

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator

_MIN_POINTS = 5  # four parameters and one degree of freedom
_MAX_STRAIN = 0.2  # beyond it no solid follows a third-order expansion
_ATTEMPTS = 4  # centres tried; each moves the minimum by less than one step of strain after the first


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of an equation of state."""

    points: int = 11
    """Number of volumes; odd, so that the centre is one of them."""
    strain: float = 0.06
    """Largest linear strain, applied in both directions (0.06 is 6 %, about 18 % in volume)."""
    relax: bool = True
    """Whether positions and cell are relaxed first. Volumes then scale the relaxed cell isotropically."""
    internal: bool = False
    """Whether positions are relaxed at every volume; needed only where symmetry leaves them free."""
    shape: bool = False
    """Whether the shape of the cell, such as c/a, is relaxed at every volume as well, together with the positions."""
    fmax: float = FMAX
    """Convergence of every relaxation [eV/Angstrom], as in the property ``relaxation``."""
    max_steps: int = MAX_STEPS
    """Limit on the number of steps of every relaxation."""

    def __post_init__(self) -> None:
        require_positive(self, "strain", "fmax", "max_steps")
        odd = self.points >= _MIN_POINTS and self.points % 2 == 1
        require(odd, f"points = {self.points} is not odd and at least {_MIN_POINTS}.", fix="use 11.")
        require(self.strain <= _MAX_STRAIN, f"strain = {self.strain} is above {_MAX_STRAIN}.", fix="6 % is 0.06.")


@dataclass(frozen=True)
class Result:
    """Parameters of the fit and the points behind it."""

    v0_angstrom3_per_atom: float
    b0_gpa: float
    b0_prime: float
    """Pressure derivative of the bulk modulus, dimensionless."""
    e0_ev_per_atom: float
    fit_rms_mev_per_atom: float
    """Root mean square of energy minus fit."""
    volumes_angstrom3_per_atom: tuple[float, ...]
    energies_ev_per_atom: tuple[float, ...]


def fit_birch_murnaghan(volumes: Sequence[float], energies: Sequence[float]) -> Result:
    """Fit energies [eV/atom] at volumes [Angstrom^3/atom], both ascending in volume.

    Raises
    ------
    UnconvergedError
        If the lowest energy is at an end, the least squares fail, or the fitted minimum lies outside the volumes.
    """
    v, e = np.asarray(volumes, dtype=float), np.asarray(energies, dtype=float)
    if e.argmin() in {0, len(e) - 1}:
        raise _no_minimum("the lowest energy is at the end of the range")
    shift = e.min()  # meV matter on top of a total energy that can be thousands of eV
    e0, b0, b0_prime, v0 = _least_squares(v, e - shift)
    if not (v[0] < v0 < v[-1] and b0 > 0):
        raise _no_minimum(f"the fit puts it at {v0:.4g} Angstrom^3 with a bulk modulus of {b0:.3g} eV/Angstrom^3")
    residual = e - shift - birchmurnaghan(v, e0, b0, b0_prime, v0)
    return Result(
        v0_angstrom3_per_atom=v0,
        b0_gpa=b0 * EV_PER_A3_IN_GPA,
        b0_prime=b0_prime,
        e0_ev_per_atom=e0 + float(shift),
        fit_rms_mev_per_atom=float(np.sqrt(np.mean(residual**2))) * MEV,
        volumes_angstrom3_per_atom=tuple(v.tolist()),
        energies_ev_per_atom=tuple(e.tolist()),
    )


def _least_squares(volumes: Any, energies: Any) -> tuple[float, float, float, float]:  # noqa: ANN401 - arrays
    """Return E0, B0, B0' and V0 in eV and Angstrom."""
    fit = EquationOfState(volumes, energies, eos="birchmurnaghan")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", OptimizeWarning)
            fit.fit(warn=False)  # its warning on the range is our error
    except (RuntimeError, OptimizeWarning) as error:
        raise _no_minimum(f"the least squares failed ({error})") from error
    e0, b0, b0_prime, v0 = (float(value) for value in fit.eos_parameters)
    return e0, b0, b0_prime, v0


def _no_minimum(why: str) -> UnconvergedError:
    return UnconvergedError(
        f"The equation of state has no minimum in the range of volumes: {why}.",
        fix="set relax = true, start nearer to the equilibrium volume, or widen strain.",
    )


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Compute the equation of state, recentred until the minimum is within one step of strain of the centre.

    Raises
    ------
    UnconvergedError
        If a relaxation or the fit fails, or the centre is not found.
    UnstableError
        If a relaxation falls apart or an energy is not finite.
    """
    centre = atoms.copy()
    if settings.relax:
        centre = relaxed(atoms, calc, cell=True, fmax=settings.fmax, max_steps=settings.max_steps)
    step = 2 * settings.strain / (settings.points - 1)
    for _ in range(_ATTEMPTS):
        fit = _fit_around(centre, calc, settings)
        scale = (fit.v0_angstrom3_per_atom * len(centre) / centre.cell.volume) ** (1 / 3)
        if abs(scale - 1) <= step:
            return fit
        centre = _scaled(centre, scale)
    raise _no_minimum(f"its position moved with every one of {_ATTEMPTS} centres")


def _fit_around(centre: Atoms, calc: Calculator, settings: Settings) -> Result:
    scales = 1 + np.linspace(-settings.strain, settings.strain, settings.points)
    frames = [_scaled(centre, scale) for scale in scales]
    energies = _energies(frames, calc, settings)
    require_finite(energies, "an energy")
    volumes = [frame.cell.volume / len(frame) for frame in frames]
    return fit_birch_murnaghan(volumes, [energy / len(centre) for energy in energies])


def _scaled(atoms: Atoms, scale: float) -> Atoms:
    frame: Atoms = atoms.copy()
    frame.set_cell(atoms.cell * scale, scale_atoms=True)
    return frame


def _energies(frames: list[Atoms], calc: Calculator, settings: Settings) -> list[float]:
    if not (settings.internal or settings.shape):
        return [item.energy for item in evaluate(calc, frames, stress=False)]
    how: dict[str, Any] = {"fmax": settings.fmax, "max_steps": settings.max_steps}
    final = (
        [relaxed(frame, calc, cell=True, constant_volume=True, **how) for frame in frames]
        if settings.shape
        else relaxed_together(frames, calc, **how)
    )
    return [float(frame.get_potential_energy()) for frame in final]


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return ``v0_percent``, ``b0_percent`` and the difference ``b0_prime``, signed, where the reference has them."""
    errors = percent_errors(result, reference, {"v0_percent": "v0_angstrom3_per_atom", "b0_percent": "b0_gpa"})
    if "b0_prime" in reference:
        errors["b0_prime"] = result.b0_prime - reference["b0_prime"]
    return errors


PROPERTY = Property(name="eos", version=1, settings=Settings, result=Result, compute=compute, compare=compare)
