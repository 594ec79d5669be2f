"""A structure from which training frames are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Parent:
    """A structure, and the family whose settings say what becomes of it."""

    name: str
    """Unique; names a file."""
    family: str
    atoms: Atoms
