"""Volume that an atom of an element takes in its common solids, to a tenth or two."""

from __future__ import annotations

VOLUMES = {
    "H": 5.0,
    "Li": 18.0,
    "C": 9.0,
    "O": 10.0,
    "F": 10.0,
    "Mg": 20.0,
    "Al": 16.5,
    "Si": 19.0,
    "P": 20.0,
    "S": 21.0,
    "Cl": 25.0,
    "Ga": 19.0,
    "Ge": 22.0,
    "Mo": 16.0,
    "Au": 17.0,
}
"""[Angstrom^3], by element."""
