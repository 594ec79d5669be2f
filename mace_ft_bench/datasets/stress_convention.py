"""Check the sign, the order and the unit of stress labels against the strains of the frames themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mace_ft_bench.datasets.frames import ENERGY, STRESS
from mace_ft_bench.errors import DataError
from mace_ft_bench.units import EV_PER_A3_IN_GPA
from mace_ft_bench.voigt import voigt_label

if TYPE_CHECKING:
    from ase import Atoms

_SMALLEST_RANGE = 1e-3
_SMALLEST_EXPANSION = 5e-3
"""Least spread of the logarithm of the volume."""
_FEWEST_VOLUMES = 4
_DEGREE = 3
"""Of the polynomial of the energy in the volume; a parabola leaves percents of a pressure out at 5 % strain."""
_SIGNIFICANCE = 3.0
"""Standard errors by which a bulk modulus has to differ from zero."""


@dataclass(frozen=True)
class ShearResponse:
    """How shear stress labels follow shear strains, components in the order (yz, xz, xy)."""

    modulus_gpa: tuple[tuple[float, ...], ...]
    """Entry [i][j]: change of stress component i per engineering strain component j [GPa]."""
    frames: int
    """Number of frames used."""

    @property
    def is_consistent(self) -> bool:
        """Whether every component follows its own strain, with a positive modulus, more than any other's."""
        matrix = np.array(self.modulus_gpa)
        own = np.diag(matrix)
        others = np.abs(matrix - np.diag(own)).max(axis=1)
        return bool((own > 0).all() and (own > 2 * others).all())


def shear_response(frames: list[Atoms], reference_cell: np.ndarray) -> ShearResponse:
    """Regress shear stress labels on the shear strains of the cells.

    In a correct label set of a cubic crystal the result is C44 times the identity: a wrong sign makes it negative,
    a wrong order moves it off the diagonal, a wrong unit changes its size.

    Parameters
    ----------
    frames
        Frames of one crystal with sheared cells, with stress labels.
    reference_cell
        Cell vectors of the unstrained crystal [Angstrom], shape (3, 3).

    Raises
    ------
    DataError
        If the frames do not contain all three shears.
    """
    used = [frame for frame in frames if STRESS in frame.info]
    strains = np.array([_engineering_shear(frame.cell.array, reference_cell) for frame in used]).reshape(-1, 3)
    if len(used) == 0 or np.ptp(strains, axis=0).min() < _SMALLEST_RANGE:
        raise DataError("The frames are not sheared in all three planes.", fix="give frames of elastic deformations.")
    stresses = np.array([frame.info[STRESS][3:] for frame in used]) * EV_PER_A3_IN_GPA
    design = np.column_stack([strains, np.ones(len(used))])
    slopes = np.linalg.lstsq(design, stresses, rcond=None)[0][:3].T
    return ShearResponse(modulus_gpa=tuple(tuple(row) for row in slopes.tolist()), frames=len(used))


@dataclass(frozen=True)
class PressureResponse:
    """How the pressure of stress labels follows the volume."""

    bulk_modulus_gpa: float
    """Least-squares slope of the pressure against minus the logarithm of the volume per atom [GPa]."""
    standard_error_gpa: float
    """Of that slope, from the scatter of the labels."""
    ratio_to_energies: float | None
    """Change of the pressure label per change of -dE/dV, where E(V) is a cubic fitted to the energy labels; None
    without energies at four volumes. One tells that the unit is right, but only if the volume is all that makes the
    energies differ (an equation of state): in molecular dynamics hotter frames are larger."""
    frames: int
    """Number of frames used."""

    @property
    def is_consistent(self) -> bool:
        """Whether the pressure falls with the volume, beyond doubt, as it does in every stable phase."""
        return self.bulk_modulus_gpa > _SIGNIFICANCE * self.standard_error_gpa


def pressure_response(frames: list[Atoms]) -> PressureResponse:
    """Regress the pressure of stress labels on the volume, and compare it with the slope of the energies.

    A wrong sign makes the bulk modulus negative, a wrong unit changes its size. Frames at several fixed volumes and
    one temperature are best; where the volume fluctuates at constant pressure, the slope is still that of the
    isothermal bulk modulus, but lower where temperatures are mixed.

    Parameters
    ----------
    frames
        Frames of one composition at different volumes, with stress labels.

    Raises
    ------
    DataError
        If the frames differ in composition, or hardly in volume.
    """
    used = [frame for frame in frames if STRESS in frame.info]
    if len({frame.symbols.formula.reduce()[0].format("metal") for frame in used}) > 1:
        raise DataError("The frames differ in composition.", fix="give frames of one composition.")
    volumes = np.array([frame.cell.volume / len(frame) for frame in used])
    if len(used) <= _FEWEST_VOLUMES or np.ptp(np.log(volumes)) < _SMALLEST_EXPANSION:
        raise DataError(
            f"{len(used)} frames with stress labels hardly differ in volume.",
            fix="give compressed and expanded frames.",
        )
    pressures = -np.array([voigt_label(frame.info[STRESS])[:3].mean() for frame in used]) * EV_PER_A3_IN_GPA
    fit, covariance = np.polyfit(-np.log(volumes), pressures, 1, cov=True)
    energies = np.array([frame.info.get(ENERGY, np.nan) / len(frame) for frame in used])
    return PressureResponse(
        bulk_modulus_gpa=float(fit[0]),
        standard_error_gpa=float(np.sqrt(covariance[0, 0])),
        ratio_to_energies=_ratio_to_energies(volumes, energies, pressures),
        frames=len(used),
    )


def _ratio_to_energies(volumes: np.ndarray, energies: np.ndarray, pressures: np.ndarray) -> float | None:
    if len(np.unique(volumes.round(4))) < _FEWEST_VOLUMES or not np.isfinite(energies).all():
        return None
    expected = -np.polynomial.Polynomial.fit(volumes, energies, _DEGREE).deriv()(volumes) * EV_PER_A3_IN_GPA
    return float(np.polyfit(expected, pressures, 1)[0])


def _engineering_shear(cell: np.ndarray, reference: np.ndarray) -> np.ndarray:
    gradient = np.linalg.solve(reference, cell) - np.eye(3)
    strain = gradient + gradient.T
    return np.array([strain[1, 2], strain[0, 2], strain[0, 1]])
