"""Pairs of many small periodic cells in one compiled call; imported on first use, because numba is.

vesin takes 60 microseconds for a cell of a few atoms, nearly all of it around the search. A batch of strained cells
would spend a seventh of its time there.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

_MOST_TRIALS = 20_000
"""Distances per cell up to which trying them all is faster than vesin's boxes."""


def find_small(structures: Sequence[Atoms], cutoff: float) -> list[int]:
    """Return which structures are periodic in every direction, and so small that all distances can be tried."""
    solid = [index for index, atoms in enumerate(structures) if atoms.pbc.all()]
    if not solid:
        return []
    cells = np.stack([structures[index].cell.array for index in solid])
    pairs = np.array([len(structures[index]) for index in solid]) ** 2
    trials = pairs * (2 * cutoff / _heights(cells) + 1).prod(axis=1)
    return [index for index, number in zip(solid, trials, strict=True) if number <= _MOST_TRIALS]


def find_pairs(structures: Sequence[Atoms], cutoff: float) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return the pairs within the cutoff of fully periodic structures.

    Parameters
    ----------
    structures
        Their cells have a volume.
    cutoff
        [Angstrom].

    Returns
    -------
    list of tuple of numpy.ndarray
        Per structure the first pair of every atom, and the end (N + 1,) int64; the other atom (P,) int32; cell vectors
        added to it (P, 3) int32.
    """
    if not structures:
        return []
    sizes = [len(atoms) for atoms in structures]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    positions = np.concatenate([atoms.positions for atoms in structures])
    cells = np.stack([atoms.cell.array for atoms in structures])
    fractions = np.einsum("na,nab->nb", positions, np.repeat(np.linalg.inv(cells), sizes, axis=0))
    geometry = (offsets, positions, fractions, cells, cutoff / _heights(cells), cutoff)
    first = np.zeros(len(positions) + 1, np.int64)
    _walk(*geometry, first, np.empty(0, np.int32), np.empty((0, 3), np.int32))
    sender, shift = np.empty(first[-1], np.int32), np.empty((first[-1], 3), np.int32)
    _walk(*geometry, first, sender, shift)
    starts = [first[start : stop + 1] for start, stop in pairwise(offsets.tolist())]
    return [(own - own[0], sender[own[0] : own[-1]], shift[own[0] : own[-1]]) for own in starts]


def _heights(cells: np.ndarray) -> np.ndarray:
    """Return the distances between opposite faces [Angstrom] (B, 3) of cells with a volume (B, 3, 3)."""
    heights: np.ndarray = 1 / np.linalg.norm(np.linalg.inv(cells), axis=1)
    return heights


@njit(cache=True, nogil=True, error_model="numpy")
def _walk(  # noqa: PLR0913, PLR0917 - pragma: no cover - compiled
    offsets: np.ndarray,
    positions: np.ndarray,
    fractions: np.ndarray,
    cells: np.ndarray,
    reach: np.ndarray,
    cutoff: float,
    first_pair: np.ndarray,
    sender: np.ndarray,
    shift: np.ndarray,
) -> None:
    """Count the pairs if there is no room for them, otherwise write them.

    An image of a pair at fractional coordinates s + n can lie within the cutoff only if no component of it exceeds the
    cutoff over the height of the cell.
    """
    square = cutoff * cutoff
    writing = len(sender) > 0
    count = 0
    for box in range(len(cells)):
        cell, far, origin = cells[box], reach[box], offsets[box]
        for i in range(origin, offsets[box + 1]):
            for j in range(origin, offsets[box + 1]):
                s = fractions[j, 0] - fractions[i, 0]
                t = fractions[j, 1] - fractions[i, 1]
                u = fractions[j, 2] - fractions[i, 2]
                for a in range(int(np.ceil(-far[0] - s)), int(np.floor(far[0] - s)) + 1):
                    for b in range(int(np.ceil(-far[1] - t)), int(np.floor(far[1] - t)) + 1):
                        x = positions[j, 0] - positions[i, 0] + (a * cell[0, 0] + b * cell[1, 0])
                        y = positions[j, 1] - positions[i, 1] + (a * cell[0, 1] + b * cell[1, 1])
                        z = positions[j, 2] - positions[i, 2] + (a * cell[0, 2] + b * cell[1, 2])
                        for c in range(int(np.ceil(-far[2] - u)), int(np.floor(far[2] - u)) + 1):
                            v, w, h = x + c * cell[2, 0], y + c * cell[2, 1], z + c * cell[2, 2]
                            if v * v + w * w + h * h > square or (i == j and a == 0 and b == 0 and c == 0):
                                continue
                            if writing:
                                sender[count] = j - origin
                                shift[count, 0], shift[count, 1], shift[count, 2] = a, b, c
                            count += 1
            first_pair[i + 1] = count
