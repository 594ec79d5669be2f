"""Units and sign conventions, stated once.

Inside the package energies are in eV, lengths in Angstrom, forces in eV/Angstrom and stresses in eV/Angstrom^3 with
ASE's sign (tension positive) and ASE's Voigt order (xx, yy, zz, yz, xz, xy). Other units are converted at the
boundary with the factors below (CODATA values as in :mod:`ase.units`).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from ase import units as _ase

from mace_ft_bench.errors import CardError, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

EV_PER_A3_IN_GPA: float = 1.0 / _ase.GPa
"""One eV/Angstrom^3 in GPa (160.2177)."""

KBAR_IN_EV_PER_A3: float = 0.1 * _ase.GPa
"""One kbar in eV/Angstrom^3 (6.2415e-4)."""

EV_PER_A2_IN_J_PER_M2: float = _ase.m**2 / _ase.J
"""One eV/Angstrom^2 in J/m^2 (16.02177)."""

MEV: float = 1000.0
"""One eV in meV."""

HARTREE_IN_EV: float = _ase.Hartree
"""One hartree in eV (27.211386)."""

BOHR_IN_A: float = _ase.Bohr
"""One bohr in Angstrom (0.52917721)."""

ENERGY_UNITS: Mapping[str, float] = MappingProxyType(
    {
        "eV": 1.0,
        "meV": 1e-3,
        "hartree": HARTREE_IN_EV,
        "rydberg": _ase.Rydberg,
        "kcal/mol": _ase.kcal / _ase.mol,
        "kJ/mol": _ase.kJ / _ase.mol,
    }
)
"""Units of energy that files may be in, in eV."""

LENGTH_UNITS: Mapping[str, float] = MappingProxyType({"A": 1.0, "nm": 10.0, "bohr": BOHR_IN_A})
"""Units of length that files may be in, in Angstrom."""

FORCE_UNITS: Mapping[str, float] = MappingProxyType(
    {
        f"{energy}/{length}": ENERGY_UNITS[energy] / LENGTH_UNITS[length]
        for energy, length in [("eV", "A"), ("meV", "A"), ("hartree", "bohr"), ("rydberg", "bohr"), ("kcal/mol", "A")]
    }
)
"""Units of force that files may be in, in eV/Angstrom."""

PRESSURE_UNITS: Mapping[str, float] = MappingProxyType(
    {
        "eV/A^3": 1.0,
        "GPa": _ase.GPa,
        "kbar": KBAR_IN_EV_PER_A3,
        "bar": 1e-3 * KBAR_IN_EV_PER_A3,
        "hartree/bohr^3": HARTREE_IN_EV / BOHR_IN_A**3,
        "rydberg/bohr^3": _ase.Rydberg / BOHR_IN_A**3,
    }
)
"""Units of stress that files may be in, in eV/Angstrom^3."""


def factor(unit: str, units: Mapping[str, float]) -> float:
    """Return what one of a unit is in ours.

    Raises
    ------
    CardError
        If no unit of that name is among ``units``.
    """
    if unit not in units:
        raise CardError(f'"{unit}" is no unit here.', fix=suggestion(unit, units))
    return units[unit]
