"""Structures of a public dataset as templates: their elements exchanged for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from mace_ft_bench.learning.parent import Parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_KINDS = (("O", "S", "F", "Cl", "H"), ("C", "Si", "Ge", "P"), ("Li", "Mg", "Al", "Ga", "Mo", "Au"))
_ANIONS, _METALLOIDS = (
    {"O", "S", "F", "Cl", "H", "Se", "Te", "Br", "I", "N"},
    {"B", "C", "Si", "Ge", "P", "As", "Sb", "Sn"},
)
_SMALLEST_RADIUS = 0.7
"""Covalent radius [Angstrom] below which an atom takes no less room."""


def exchanged(
    templates: Sequence[Atoms], elements: Sequence[str], most_atoms: int, generator: np.random.Generator
) -> Iterator[Parent]:
    """Yield every small template with its elements mapped to others of their kind, the volume scaled by radii.

    Parameters
    ----------
    templates
        Periodic structures.
    elements
        Elements to use.
    most_atoms
        Larger templates are left out.
    generator
        Source of randomness.
    """
    for number, template in enumerate(templates):
        if len(template) > most_atoms or len(template) == 1:
            continue
        mapping = _mapping(sorted(set(map(str, template.symbols))), elements, generator)
        if mapping is not None:
            atoms = Atoms([mapping[str(symbol)] for symbol in template.symbols], template.positions)
            atoms.set_cell(template.cell)
            atoms.pbc = True
            growth = _size(atoms) / _size(template)
            atoms.set_cell(atoms.cell.array * min(max(growth, 0.5), 2.0) ** (1 / 3), scale_atoms=True)
            yield Parent(f"template-{number}", "templates", atoms)


def _size(atoms: Atoms) -> float:
    return float((np.maximum(covalent_radii[atoms.numbers], _SMALLEST_RADIUS) ** 3).sum())


def _mapping(old: Sequence[str], elements: Sequence[str], generator: np.random.Generator) -> dict[str, str] | None:
    """Return a new element for every old one, no two the same; None if they run out."""
    mapping: dict[str, str] = {}
    for symbol in old:
        kind = _KINDS[0 if symbol in _ANIONS else 1 if symbol in _METALLOIDS else 2]
        free = [new for new in kind if new in elements and new not in mapping.values()]
        if not free:
            return None
        mapping[symbol] = symbol if symbol in free and generator.random() < 0.5 else str(generator.choice(free))  # noqa: PLR2004 - a coin
    return mapping
