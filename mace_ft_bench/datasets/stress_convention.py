"""Check the sign, the order and the unit of stress labels against the strains of the frames themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mace_ft_bench.datasets.frames import STRESS
from mace_ft_bench.errors import DataError
from mace_ft_bench.units import EV_PER_A3_IN_GPA

if TYPE_CHECKING:
    from ase import Atoms

_SMALLEST_RANGE = 1e-3


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


def _engineering_shear(cell: np.ndarray, reference: np.ndarray) -> np.ndarray:
    gradient = np.linalg.solve(reference, cell) - np.eye(3)
    strain = gradient + gradient.T
    return np.array([strain[1, 2], strain[0, 2], strain[0, 1]])
