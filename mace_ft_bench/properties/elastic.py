"""Elastic constants from the stresses of strained cells, each relaxed internally.

Strained cells come from the package ``elastic`` and so does the fit of a cubic crystal. Other crystals get a fit of
the full 6 x 6 tensor without assumptions on symmetry, because that package's equations are wrong for some of them
(5.2.5: tetragonal C44 comes out as zero, the triclinic set lacks C24, C34 and C35).

Hill averages: R. Hill, Proc. Phys. Soc. A 65, 349 (1952), doi 10.1088/0370-1298/65/5/307. Stability: F. Mouhat and
F.-X. Coudert, Phys. Rev. B 90, 224104 (2014), doi 10.1103/PhysRevB.90.224104.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from ase.spacegroup.symmetrize import refine_symmetry
from elastic.elastic import (
    get_cart_deformed_cell,
    get_cij_order,
    get_elastic_tensor,
    get_elementary_deformations,
    get_strain,
)
from numpy.typing import NDArray

from mace_ft_bench.errors import StructureError, UnconvergedError, UnstableError
from mace_ft_bench.properties.base import Property
from mace_ft_bench.properties.checks import percent_errors, require, require_positive
from mace_ft_bench.properties.relax import (
    FMAX,
    MAX_STEPS,
    evaluated,
    lattice_constant,
    max_stress_gpa,
    relaxed,
    relaxed_together,
)
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import EV_PER_A3_IN_GPA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms
    from ase.calculators.calculator import Calculator

Array: TypeAlias = NDArray[np.float64]

_CUBIC_ORDER = ("C_11", "C_12", "C_44")
_FIRST_CUBIC_GROUP = 195
_MIN_POINTS = 3
_MAX_STRAIN_PERCENT = 5.0  # beyond it no crystal is linear
_SYMPREC = 1e-3  # Angstrom; above the noise of a float32 relaxation, below a real distortion
_AXES_TOLERANCE = 1e-3  # of the direction cosines
_ENGINEERING = np.array([1, 1, 1, 2, 2, 2])  # the strains of `elastic` are tensor components


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of the elastic constants."""

    strain_percent: float = 0.5
    """Largest strain [%]. A shear is a displacement gradient, so its tensor component is half of it."""
    points: int = 5
    """Strained cells per deformation."""
    fmax: float = FMAX
    """Convergence of every relaxation [eV/Angstrom], as in the property ``relaxation``."""
    max_steps: int = MAX_STEPS
    """Limit on the number of steps of every relaxation."""
    stress_limit_gpa: float = 0.1
    """Largest stress component that may remain in the unstrained crystal [GPa]."""

    def __post_init__(self) -> None:
        require_positive(self, "strain_percent", "fmax", "max_steps", "stress_limit_gpa")
        require(self.points >= _MIN_POINTS, f"points = {self.points} is too few.", fix=f"use {_MIN_POINTS} or more.")
        small = self.strain_percent <= _MAX_STRAIN_PERCENT
        require(small, f"strain_percent = {self.strain_percent} is not small.", fix="0.5 means half a percent.")


@dataclass(frozen=True)
class Result:
    """Elastic constants at zero stress and temperature."""

    c11_gpa: float | None
    """None unless the crystal is cubic, as are the next two."""
    c12_gpa: float | None
    c44_gpa: float | None
    constants_gpa: dict[str, float]
    """The constants that differ by symmetry, named by ``elastic.get_cij_order`` (``C_11``, ...)."""
    stiffness_gpa: tuple[tuple[float, ...], ...]
    """6 x 6, Voigt order (xx, yy, zz, yz, xz, xy), engineering shear strains."""
    bulk_modulus_gpa: float
    """Hill average, as are the next two."""
    shear_modulus_gpa: float
    poisson_ratio: float
    born_stable: bool
    """Whether the stiffness is positive definite; ``compute`` raises ``UnstableError`` if not."""
    misfit_percent: float
    """Norm of stress minus linear law relative to the norm of stress: how far the crystal is from linear [%]."""
    residual_stress_gpa: float
    """Largest stress component of the unstrained crystal."""
    a_angstrom: float | None
    """Lattice constant if the cell is cubic, else None."""


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Relax the crystal, strain it, relax each strained cell internally and fit the stresses.

    Raises
    ------
    UnconvergedError
        If a relaxation does not converge or leaves too much stress.
    UnstableError
        If the stiffness is not positive definite, or a relaxation falls apart.
    StructureError
        If the crystal is cubic and its cube axes are not along x, y and z, where C11, C12 and C44 are defined.
    """
    crystal, stress = _equilibrium(atoms, calc, settings)
    stiffness, order, misfit = _fit(crystal, calc, settings)
    lowest = float(np.linalg.eigvalsh(stiffness).min())
    if lowest <= 0:
        raise UnstableError(
            f"The stiffness has the eigenvalue {lowest:.3g} GPa: the crystal is mechanically unstable (Born).",
            fix="nothing, if the crystal is meant to be stable: this model does not hold it.",
        )
    return Result(
        **_moduli(stiffness, order),
        born_stable=True,
        misfit_percent=100 * misfit,
        residual_stress_gpa=stress,
        a_angstrom=lattice_constant(crystal, start=atoms),
    )


def _equilibrium(atoms: Atoms, calc: Calculator, settings: Settings) -> tuple[Atoms, float]:
    """Return the relaxed crystal and its largest stress component [GPa].

    Its symmetry is restored after the relaxation: at noise of 1e-5 Angstrom ``elastic`` takes a cubic crystal for a
    monoclinic one.
    """
    crystal = relaxed(atoms, calc, cell=True, fmax=settings.fmax, max_steps=settings.max_steps)
    symmetry = refine_symmetry(crystal, symprec=_SYMPREC)
    _check_axes(crystal, symmetry)
    crystal = evaluated(crystal, calc)  # relaxing again would break the symmetry again
    stress = max_stress_gpa(crystal)
    if stress is None or stress > settings.stress_limit_gpa:
        raise UnconvergedError(
            f"The relaxed crystal has a stress of {stress} GPa, above {settings.stress_limit_gpa} GPa.",
            fix="lower fmax, or use float64.",
        )
    return crystal, stress


def _check_axes(crystal: Atoms, symmetry: Any) -> None:  # noqa: ANN401 - spglib's dataset
    """Refuse a cubic crystal that is rotated: every symmetry operation must map the axes x, y, z to each other."""
    cell = crystal.cell.array.T
    rotations = np.abs(cell @ symmetry.rotations @ np.linalg.inv(cell))
    cubic = symmetry.number >= _FIRST_CUBIC_GROUP
    if cubic and not np.allclose(rotations, rotations.round(), atol=_AXES_TOLERANCE):
        raise StructureError(
            "The cube axes of the cubic crystal are not along x, y and z, where C11, C12 and C44 are defined.",
            fix="rotate the crystal, or build it with ase.build.bulk.",
        )


def _fit(crystal: Atoms, calc: Calculator, settings: Settings) -> tuple[Array, tuple[str, ...], float]:
    """Return the stiffness [GPa], the names of the constants that differ by symmetry, and the misfit."""
    with warnings.catch_warnings():
        # spglib 2.8 announces another error handling to every caller of the old one, which `elastic` is
        warnings.filterwarnings("ignore", message="Set OLD_ERROR_HANDLING", category=DeprecationWarning)
        order = tuple(get_cij_order(crystal))
        cubic = order == _CUBIC_ORDER
        cells = (
            get_elementary_deformations(crystal, n=settings.points, d=settings.strain_percent)
            if cubic
            else _all_deformations(crystal, settings)
        )
        strained = relaxed_together(cells, calc, fmax=settings.fmax, max_steps=settings.max_steps)
        stiffness = _cubic(get_elastic_tensor(crystal, strained)[0]) if cubic else _least_squares(crystal, strained)
    return stiffness * EV_PER_A3_IN_GPA, order, _misfit(stiffness, crystal, strained)


def _all_deformations(crystal: Atoms, settings: Settings) -> list[Atoms]:
    """Return cells strained along all six axes, in both directions so that third-order terms cancel."""
    sizes = np.linspace(-settings.strain_percent, settings.strain_percent, settings.points)
    return [get_cart_deformed_cell(crystal, axis=axis, size=size) for axis in range(6) for size in sizes]


def _strains_stresses(crystal: Atoms, strained: list[Atoms]) -> tuple[Array, Array]:
    """Return engineering strains and the stresses [eV/Angstrom^3] that they add, shape (number of cells, 6)."""
    strains = np.array([get_strain(cell, refcell=crystal) for cell in strained]) * _ENGINEERING
    stresses = np.array([cell.get_stress() for cell in strained]) - crystal.get_stress()
    return strains, stresses


def _least_squares(crystal: Atoms, strained: list[Atoms]) -> Array:
    strains, stresses = _strains_stresses(crystal, strained)
    stiffness = np.linalg.lstsq(strains, stresses, rcond=None)[0]
    return np.asarray((stiffness + stiffness.T) / 2)


def _cubic(constants: Any) -> Array:  # noqa: ANN401 - array of C11, C12, C44
    c11, c12, c44 = constants
    stiffness = np.zeros((6, 6))
    stiffness[:3, :3] = c12
    np.fill_diagonal(stiffness, [c11, c11, c11, c44, c44, c44])
    return stiffness


def _misfit(stiffness: Array, crystal: Atoms, strained: list[Atoms]) -> float:
    strains, stresses = _strains_stresses(crystal, strained)
    scale = float(np.linalg.norm(stresses))
    return float(np.linalg.norm(stresses - strains @ stiffness)) / scale if scale > 0 else 0.0


def hill_average(stiffness: Array) -> tuple[float, float]:
    """Return the bulk and shear modulus, the means of Voigt's and Reuss' bounds, in the unit of ``stiffness``.

    Parameters
    ----------
    stiffness
        6 x 6, engineering shear strains; positive definite. doi 10.1088/0370-1298/65/5/307
    """
    compliance = np.asarray(np.linalg.inv(stiffness), dtype=float)
    bulk_voigt, bulk_reuss = stiffness[:3, :3].sum() / 9, 1 / compliance[:3, :3].sum()
    shear_voigt = _shear_sum(stiffness, off_diagonal=1, shear=3) / 15
    shear_reuss = 15 / _shear_sum(compliance, off_diagonal=4, shear=3, diagonal=4)
    return float(bulk_voigt + bulk_reuss) / 2, float(shear_voigt + shear_reuss) / 2


def _shear_sum(tensor: Array, *, off_diagonal: int, shear: int, diagonal: int = 1) -> float:
    """Return the combination of (11 + 22 + 33), (12 + 13 + 23) and (44 + 55 + 66) in Voigt's and Reuss' shear."""
    trace = np.trace(tensor[:3, :3])
    mixed = (tensor[:3, :3].sum() - trace) / 2
    return float(diagonal * trace - off_diagonal * mixed + shear * np.trace(tensor[3:, 3:]))


def _moduli(stiffness: Array, order: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of the result that follow from the stiffness [GPa]."""
    bulk, shear = hill_average(stiffness)
    constants = {name: float(stiffness[int(name[2]) - 1, int(name[3]) - 1]) for name in order}
    cubic = constants if order == _CUBIC_ORDER else {}
    return {
        "c11_gpa": cubic.get("C_11"),
        "c12_gpa": cubic.get("C_12"),
        "c44_gpa": cubic.get("C_44"),
        "constants_gpa": constants,
        "stiffness_gpa": tuple(tuple(row) for row in stiffness.tolist()),
        "bulk_modulus_gpa": bulk,
        "shear_modulus_gpa": shear,
        "poisson_ratio": (3 * bulk - 2 * shear) / (2 * (3 * bulk + shear)),
    }


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return signed deviations [%] where the reference has the value; of Poisson's ratio the difference.

    Names: ``c11_percent``, ``c12_percent``, ``c44_percent``, ``bulk_modulus_percent``, ``shear_modulus_percent``,
    ``a_percent``, ``poisson_ratio``.
    """
    fields = {
        "c11_percent": "c11_gpa",
        "c12_percent": "c12_gpa",
        "c44_percent": "c44_gpa",
        "bulk_modulus_percent": "bulk_modulus_gpa",
        "shear_modulus_percent": "shear_modulus_gpa",
        "a_percent": "a_angstrom",
    }
    errors = percent_errors(result, reference, fields)
    if "poisson_ratio" in reference:
        errors["poisson_ratio"] = result.poisson_ratio - reference["poisson_ratio"]
    return errors


PROPERTY = Property(name="elastic", version=1, settings=Settings, result=Result, compute=compute, compare=compare)
