"""Checks of a structure before a calculator spends time on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.calculators.calculator import PropertyNotImplementedError
from ase.data import chemical_symbols

from mace_ft_bench.errors import StructureError, UnsupportedElementError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ase import Atoms

    from mace_ft_bench.calculators.graph import Graph

_SMALLEST_VOLUME = 1e-6
"""Volume [Angstrom^3] below which a periodic cell counts as flat."""


_DIMENSIONS = 3
_SHORTEST_DISTANCE = 0.1
"""Distance [Angstrom] below which two atoms count as one put in twice."""


def check_structure(atoms: Atoms, elements: Collection[int], *, model: str) -> None:
    """Refuse structures that cannot be evaluated.

    Parameters
    ----------
    atoms
        Structure to check.
    elements
        Atomic numbers the model knows.
    model
        Name of the model, for the message.

    Raises
    ------
    StructureError
        For an empty structure, non-finite positions or cell, or a periodic cell without volume.
    UnsupportedElementError
        Naming every element the model has not seen.
    """
    if len(atoms) == 0:
        raise StructureError("The structure has no atoms.", fix="check how it was built or read.")
    _check_finite(atoms)
    _check_cell(atoms)
    unknown = sorted(set(atoms.numbers.tolist()) - set(elements))
    if unknown:
        known = ", ".join(chemical_symbols[number] for number in sorted(elements))
        names = ", ".join(chemical_symbols[number] for number in unknown)
        raise UnsupportedElementError(
            f"Model {model} was not trained on {names}; it knows {known}.",
            fix="choose a model that covers the elements (`mfb models`), or fine-tune one on them.",
        )


def _check_finite(atoms: Atoms) -> None:
    finite = np.isfinite(atoms.positions)
    if not finite.all():
        bad = np.flatnonzero(~finite.all(axis=1))
        raise StructureError(
            f"Positions of atoms {bad[:5].tolist()} are not finite.",
            fix="find the step that produced them; an exploding trajectory or a bad file are the usual causes.",
        )
    if not np.isfinite(atoms.cell.array).all():
        raise StructureError("The cell is not finite.", fix="find the step that produced it.")


def _check_cell(atoms: Atoms) -> None:
    if _extent(atoms.cell.array[atoms.pbc]) < _SMALLEST_VOLUME:
        raise StructureError(
            f"The cell has no extent along its periodic directions (pbc = {atoms.pbc.tolist()}).",
            fix="set a cell with three independent vectors, or switch periodicity off with atoms.pbc = False.",
        )


def _extent(vectors: np.ndarray) -> float:
    """Return the length, area or volume that up to three vectors span."""
    if len(vectors) == _DIMENSIONS:
        return float(abs(np.linalg.det(vectors)))
    return float(np.sqrt(max(np.linalg.det(vectors @ vectors.T), 0.0))) if len(vectors) else 1.0


def refuse_stress_without_volume(atoms: Atoms, properties: Sequence[str] | None) -> None:
    """Refuse to compute the stress of a structure without a three-dimensional cell.

    Raises
    ------
    PropertyNotImplementedError
        If a stress is asked for.
    """
    if properties and "stress" in properties and atoms.cell.rank < _DIMENSIONS:
        raise PropertyNotImplementedError(
            "Stress needs a cell with three independent vectors. To fix: set a cell, or do not ask for the stress."
        )


def refuse_overlap(graph: Graph, shortest: float) -> None:
    """Refuse atoms on each other.

    Parameters
    ----------
    graph
        Structures with all their pairs.
    shortest
        Shortest distance of a pair [Angstrom].

    Raises
    ------
    StructureError
        Naming the two atoms.
    """
    if shortest >= _SHORTEST_DISTANCE:
        return
    first = np.repeat(np.arange(len(graph.positions)), np.diff(graph.first_pair))
    shifts = np.einsum("pa,pab->pb", graph.shift, graph.cells[graph.structure[first]])
    distances = np.linalg.norm(graph.positions[graph.sender] + shifts - graph.positions[first], axis=1)
    closest = int(distances.argmin())
    start = np.flatnonzero(graph.structure == graph.structure[first[closest]])[0]
    raise StructureError(
        f"Atoms {first[closest] - start} and {graph.sender[closest] - start} (or an image) are {shortest:.2g} Å apart.",
        fix="separate them, or remove one of them.",
    )
