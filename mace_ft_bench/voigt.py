"""A stress label as six numbers, in whichever of the shapes that files give it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress

from mace_ft_bench.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_VOIGT, _FULL = (6,), ((3, 3), (9,))


def voigt_label(label: Any, what: str = "REF_stress") -> NDArray[np.float64]:  # noqa: ANN401 - numbers or arrays
    """Return a stress label in ASE's Voigt order (xx, yy, zz, yz, xz, xy), shape (6,), in its own unit.

    Parameters
    ----------
    label
        6 numbers in that order, or 9 or 3 x 3 of a symmetric matrix, which ASE makes of nine numbers in extended XYZ.
    what
        What it is, for the error.

    Raises
    ------
    DataError
        If it has another shape.
    """
    stress = np.asarray(label, dtype=float)
    if stress.shape == _VOIGT:
        return stress
    if stress.shape not in _FULL:
        raise DataError(f"{what} has shape {stress.shape}.", fix="give 6, 9 or 3 x 3 numbers.")
    return np.asarray(full_3x3_to_voigt_6_stress(stress.reshape(3, 3)), dtype=float)
