"""Units and sign conventions, stated once.

Inside the package energies are in eV, lengths in Angstrom, forces in eV/Angstrom and stresses in eV/Angstrom^3 with
ASE's sign (tension positive) and ASE's Voigt order (xx, yy, zz, yz, xz, xy). Other units are converted at the
boundary with the factors below (CODATA values as in :mod:`ase.units`).
"""

from __future__ import annotations

from ase import units as _ase

EV_PER_A3_IN_GPA: float = 1.0 / _ase.GPa
"""One eV/Angstrom^3 in GPa (160.2177)."""

KBAR_IN_EV_PER_A3: float = 0.1 * _ase.GPa
"""One kbar in eV/Angstrom^3 (6.2415e-4)."""

EV_PER_A2_IN_J_PER_M2: float = _ase.m**2 / _ase.J
"""One eV/Angstrom^2 in J/m^2 (16.02177)."""

MEV: float = 1000.0
"""One eV in meV."""
