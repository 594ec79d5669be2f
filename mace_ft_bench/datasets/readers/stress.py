"""Stress labels of other programs, brought into ASE's unit, sign and order; no convention is guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_ft_bench.errors import CardError, DataError, suggestion
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import ENERGY_UNITS, PRESSURE_UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
_SIGNS = {"tension": 1.0, "compression": -1.0}
_MATRIX = 9
_SYMMETRY = 1e-3
"""Largest antisymmetric part, as a share of the largest component."""


def voigt_from(values: Sequence[float] | np.ndarray, order: Sequence[str]) -> np.ndarray:
    """Return six stress components in ASE's Voigt order.

    Parameters
    ----------
    values
        Six components.
    order
        Their names, for example ``["xx", "yy", "zz", "xy", "xz", "yz"]``.

    Raises
    ------
    CardError
        If the order does not name six different components.
    DataError
        If there are not six values.
    """
    if len(order) != len(_VOIGT) or {"".join(sorted(name)) for name in order} != set(_VOIGT):
        raise CardError(f"Stress order {list(order)} is no order.", fix="name xx, yy, zz, yz, xz and xy, each once.")
    if len(values) != len(_VOIGT):
        raise DataError(f"A stress has {len(values)} components.", fix="check the source file.")
    named = {"".join(sorted(name)): value for name, value in zip(order, values, strict=True)}
    return np.array([named[name] for name in _VOIGT], dtype=float)


def voigt_of_matrix(matrix: np.ndarray, where: str) -> np.ndarray:
    """Return the symmetric part of a stress or virial (3, 3) in ASE's Voigt order, shape (6,).

    Raises
    ------
    DataError
        If the matrix is not symmetric, as one that was read in a wrong layout.
    """
    matrix = np.asarray(matrix, dtype=float).reshape(3, 3)
    skew = np.abs(matrix - matrix.T).max()
    if skew > _SYMMETRY * np.abs(matrix).max():
        raise DataError(f"{where}: the stress or virial is not symmetric (by {skew:.2g}).", fix="check the source.")
    voigt: np.ndarray = (matrix + matrix.T)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / 2
    return voigt


@dataclass(frozen=True, kw_only=True)
class StressOptions(StrictTable):
    """Options of readers whose files may hold a stress in any convention."""

    stress_key: str = ""
    """Key of the stress or virial."""
    stress_unit: str = ""
    """A unit of pressure; a unit of energy says that the label is a virial, stress times volume."""
    stress_sign: str = ""
    """``tension`` or ``compression``: what is positive. ASE, MACE: tension; VASP, CP2K: compression. The virial of
    DeePMD and of QUIP, -V times ASE's stress, is positive in compression."""
    stress_order: tuple[str, ...] = ()
    """Names of six components; nine are a matrix."""
    ignore_stress: bool = False
    """Leave stresses out."""

    def __post_init__(self) -> None:
        given = {name: getattr(self, f"stress_{name}") for name in ("key", "unit", "sign")}
        if self.ignore_stress and any([*given.values(), self.stress_order]):
            raise CardError("ignore_stress contradicts the options of a stress.", fix="give either.")
        if (any(given.values()) or self.stress_order) and not all(given.values()):
            missing = [f"stress_{name}" for name, value in given.items() if not value]
            raise CardError(f"A stress needs {', '.join(missing)}, too.", fix=_EXPLANATION)
        if self.stress_unit and self.stress_unit not in {**PRESSURE_UNITS, **ENERGY_UNITS}:
            raise CardError(
                f'stress_unit "{self.stress_unit}" is no unit of pressure, nor one of energy (a virial).',
                fix=suggestion(self.stress_unit, [*PRESSURE_UNITS, *ENERGY_UNITS]),
            )
        if self.stress_sign and self.stress_sign not in _SIGNS:
            raise CardError(f'stress_sign "{self.stress_sign}" is no sign.', fix=suggestion(self.stress_sign, _SIGNS))
        if self.stress_order:
            voigt_from([0.0] * len(_VOIGT), self.stress_order)

    def stress_of(self, labels: Mapping[str, Any], volume: float, where: str) -> np.ndarray | None:
        """Return the stress [eV/Angstrom^3] in ASE's sign and order, shape (6,), or None where it is not to be read.

        Parameters
        ----------
        labels
            Everything a frame holds, by name.
        volume
            Volume of the cell [Angstrom^3].
        where
            File and frame, for errors.

        Raises
        ------
        DataError
            If a label looks like a stress and its convention is not named, or it has not six or nine components.
        """
        if self.stress_key:
            values = np.asarray(labels[self.stress_key], dtype=float).ravel()
            return self._to_ase(values, volume, where)
        found = [name for name, value in labels.items() if _looks_like_stress(name, value)]
        if found and not self.ignore_stress:
            raise DataError(
                f'{where} has a "{found[0]}", and its convention is not named.',
                fix=f"{_EXPLANATION}, or leave it out with ignore_stress.",
            )
        return None

    def _to_ase(self, values: np.ndarray, volume: float, where: str) -> np.ndarray:
        if values.size == _MATRIX and self.stress_order:
            raise DataError(f"{where}: nine components need no stress_order.", fix="leave it out.")
        if values.size == _MATRIX:
            voigt = voigt_of_matrix(values, where)
        elif values.size == len(_VOIGT) and self.stress_order:
            voigt = voigt_from(values, self.stress_order)
        else:
            raise DataError(
                f"{where}: the stress has {values.size} components" + (" and no stress_order." if values.size else "."),
                fix="name the order of six, such as xx yy zz yz xz xy.",
            )
        if self.stress_unit in PRESSURE_UNITS:
            return _SIGNS[self.stress_sign] * PRESSURE_UNITS[self.stress_unit] * voigt
        if volume <= 0:
            raise DataError(f"{where} has a virial but no volume.", fix="set the cell, or use ignore_stress.")
        return _SIGNS[self.stress_sign] * ENERGY_UNITS[self.stress_unit] * voigt / volume


_EXPLANATION = (
    f"name stress_key, stress_unit ({', '.join(PRESSURE_UNITS)}; eV for a virial) and stress_sign (what is positive: "
    "tension or compression)"
)


def _looks_like_stress(name: str, value: Any) -> bool:  # noqa: ANN401 - whatever a file holds
    if not any(word in name.lower() for word in ("stress", "virial")):
        return False
    try:
        array = np.asarray(value)
    except ValueError:  # ragged lists are no stress
        return False
    return array.dtype.kind in "if" and array.size in {len(_VOIGT), _MATRIX}
