"""Atoms in compact blocks, and for every block the atoms its members may interact with.

A block keeps one list instead of one per member: a tenth of the memory, and packing a list serves all members.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from ase.geometry import complete_cell

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms

LARGEST_BLOCK = 24
"""Most atoms of a block; larger ones run over more atoms out of reach, smaller ones have more lists."""
MOST_CHUNKS = 16
"""Most independent parts of the work. Each has its own sums, added in order, so that the result does not depend on the
number of threads."""
ENTRIES_PER_CHUNK = 4000
"""Entries of lists from which a further part pays."""


@dataclass(frozen=True)
class Lists:
    """For every block and species the atoms that may be within reach."""

    starts: np.ndarray
    """Starts of the lists, shape (blocks, species + 1), int64; a block's lists follow each other."""
    atoms: np.ndarray
    """Sorted index of the atoms, shape (entries,), int32."""
    shifts: np.ndarray
    """Index of their shifts, shape (entries,), int32."""

    @property
    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Atoms and shifts."""
        return self.atoms, self.shifts

    @cached_property
    def chunks(self) -> list[tuple[int, int]]:
        """Ranges of blocks of about equal work."""
        ends = self.starts[:, -1]
        parts = min(MOST_CHUNKS, 1 + int(ends[-1]) // ENTRIES_PER_CHUNK)
        wanted = np.linspace(0, ends[-1], parts + 1)[1:-1]
        cuts = [0, *np.searchsorted(ends, wanted).tolist(), len(ends)]
        return [(first, last) for first, last in pairwise(cuts) if first < last]


@dataclass(frozen=True)
class Blocks:
    """Atoms of one structure, sorted into blocks; valid until atoms have used up the skin."""

    order: np.ndarray
    """Index in the structure of every sorted atom, shape (atoms,)."""
    bounds: np.ndarray
    """First sorted atom of every block, and the number of atoms, shape (blocks + 1,), int64."""
    species: np.ndarray
    """Index of the element of every sorted atom, shape (atoms,), int64; ascending within a block."""
    wraps: np.ndarray
    """Cell vectors that were subtracted from every sorted atom, shape (atoms, 3)."""
    shifts: np.ndarray
    """All cell shifts that may matter, shape (shifts, 3); the first is zero."""

    def geometry(self, atoms: Atoms, length: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the present sorted positions and the vectors of the shifts, in units of ``length`` [Angstrom]."""
        cell = atoms.cell.array
        return (atoms.positions[self.order] - self.wraps @ cell) / length, (self.shifts @ cell) / length


def make_blocks(atoms: Atoms, species: np.ndarray, reach: float) -> Blocks:
    """Sort the atoms of a structure into blocks.

    Parameters
    ----------
    atoms
        The structure.
    species
        Index of the element of every atom, shape (atoms,).
    reach
        Distance [Angstrom] up to which shifts are wanted.
    """
    scaled = _scaled(atoms)
    wraps = np.floor(scaled) * atoms.pbc
    order, bounds = _halve(atoms.positions - wraps @ atoms.cell.array)
    order = order[np.lexsort((species[order], np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))))]
    return Blocks(order, bounds, species[order], wraps[order], _shifts(atoms, scaled - wraps, reach))


def _basis(atoms: Atoms) -> np.ndarray:
    """Return the cell with the vectors of free directions replaced by orthogonal ones."""
    basis: np.ndarray = complete_cell(atoms.cell.array * atoms.pbc[:, None])
    return basis


def _scaled(atoms: Atoms) -> np.ndarray:
    scaled: np.ndarray = atoms.positions @ np.linalg.inv(_basis(atoms))
    return scaled


def _shifts(atoms: Atoms, scaled: np.ndarray, reach: float) -> np.ndarray:
    # |S_k| <= |vector| |b_k| + spread of the scaled coordinates, b_k the reciprocal vectors.
    per_length = np.linalg.norm(np.linalg.inv(_basis(atoms)), axis=0)
    most = np.floor(reach * per_length + np.ptp(scaled, axis=0)).astype(int) * atoms.pbc
    axes = [np.arange(-n, n + 1) for n in most]
    shifts = np.array(np.meshgrid(*axes, indexing="ij")).reshape(3, -1).T
    return shifts[np.argsort((shifts != 0).any(axis=1), kind="stable")].astype(float)


def _halve(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut the longest side of every box of atoms in two until the boxes are small; return the order and the bounds."""
    count = len(positions)
    order, sizes = np.arange(count), np.array([count])
    while sizes.max() > LARGEST_BLOCK:
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        placed = positions[order]
        extent = np.maximum.reduceat(placed, starts) - np.minimum.reduceat(placed, starts)
        along = np.repeat(extent.argmax(axis=1), sizes)
        order = order[np.lexsort((placed[np.arange(count), along], np.repeat(np.arange(len(sizes)), sizes)))]
        sizes = np.stack([sizes // 2, sizes - sizes // 2], axis=1).ravel()
        sizes = sizes[sizes > 0]
    return order, np.concatenate([[0], np.cumsum(sizes)])


def list_within(
    blocks: Blocks,
    geometry: tuple[np.ndarray, np.ndarray],
    reach: float,
    run: Callable[..., None],
    *,
    half: bool = True,
) -> Lists:
    """List the atoms within reach of the boxes around the blocks.

    Parameters
    ----------
    blocks
        The blocks.
    geometry
        See :meth:`Blocks.geometry`.
    reach
        Reach in the unit of the geometry.
    run
        Calls a function for ranges of blocks, maybe in threads.
    half
        Put every pair on one list; then the members of a block lead its lists. Otherwise on the lists of both.
    """
    from mace_ft_bench.calculators.d3.list_kernel import count_entries, fill_entries  # noqa: PLC0415 - numba

    count = len(blocks.bounds) - 1
    ranges = [(int(part[0]), int(part[-1]) + 1) for part in np.array_split(np.arange(count), MOST_CHUNKS) if len(part)]
    placed = geometry[0]
    boxes = np.stack([np.minimum.reduceat(placed, blocks.bounds[:-1]), np.maximum.reduceat(placed, blocks.bounds[:-1])])
    positive = _is_positive(blocks.shifts)
    kinds = int(blocks.species.max()) + 1
    sizes = np.zeros((count, kinds), dtype=np.int64)
    common = (blocks.bounds, boxes, blocks.species, *geometry, positive, reach, half)
    run(lambda part: count_entries(part, common, sizes), ranges)
    ends = np.cumsum(sizes.ravel())
    starts = np.zeros((count, kinds + 1), dtype=np.int64)
    starts[:, 1:] = ends.reshape(count, kinds)
    starts[1:, 0] = starts[:-1, -1]
    lists = Lists(starts, np.empty(ends[-1], dtype=np.int32), np.empty(ends[-1], dtype=np.int32))
    run(lambda part: fill_entries(part, common, starts, lists.entries), ranges)
    return lists


def _is_positive(shifts: np.ndarray) -> np.ndarray:
    """Whether the first component that is not zero is positive: one of every shift and its opposite."""
    a, b, c = shifts.T
    positive: np.ndarray = (a > 0) | ((a == 0) & (b > 0)) | ((a == 0) & (b == 0) & (c > 0))
    return positive
