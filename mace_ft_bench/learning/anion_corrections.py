"""Energies as a density functional gives them, from a teacher that learnt corrected ones.

The Materials Project adds a fitted energy for every anion (MaterialsProject2020Compatibility,
doi 10.1038/s41598-021-94550-5), and models trained on it, such as CHGNet, reproduce the sum.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from mace_ft_bench.errors import MissingDependencyError

if TYPE_CHECKING:
    from ase import Atoms

_PLUS_U_METALS = frozenset({"Co", "Cr", "Fe", "Mn", "Mo", "Ni", "V", "W"})
_PLUS_U_ANIONS = frozenset({"O", "F"})


def needs_plus_u(atoms: Atoms) -> bool:
    """Whether the Materials Project treats the structure with GGA+U, which is another energy surface."""
    symbols = {str(symbol) for symbol in atoms.symbols}
    return bool(symbols & _PLUS_U_METALS and symbols & _PLUS_U_ANIONS)


def anion_correction(atoms: Atoms) -> float:
    """Return the correction of the whole structure [eV]; what a corrected energy has too much.

    It depends on the composition and, for oxygen and sulphur, on whether the anions are bound to each other. Take it
    of one structure for all the frames made from it, so that their energies remain one continuous surface.

    Parameters
    ----------
    atoms
        A periodic structure.

    Raises
    ------
    MissingDependencyError
        If pymatgen, which holds the table and its rules, is not installed.
    """
    try:
        from pymatgen.entries.compatibility import MaterialsProject2020Compatibility  # noqa: PLC0415 - an extra
        from pymatgen.entries.computed_entries import ComputedStructureEntry  # noqa: PLC0415 - as above
        from pymatgen.io.ase import AseAtomsAdaptor  # noqa: PLC0415 - as above
    except ImportError as error:
        raise MissingDependencyError(
            "pymatgen is not installed.", fix='it comes with the teacher: pip install "mace-ft-bench[chgnet]".'
        ) from error
    entry = ComputedStructureEntry(
        AseAtomsAdaptor.get_structure(atoms), 0.0, parameters={"run_type": "GGA", "hubbards": {}}
    )
    with warnings.catch_warnings():
        # oxidation states that cannot be guessed: pymatgen then corrects the most electronegative element only
        warnings.filterwarnings("ignore", message="Failed to guess oxidation states")
        found = MaterialsProject2020Compatibility(check_potcar=False).get_adjustments(entry)
    return float(sum(adjustment.value for adjustment in found))
