"""How far frames of the same atoms in the same order are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mace_ft_bench.datasets.lint.sources import group_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from mace_ft_bench.datasets.lint.finding import Frames

_BLOCK = 3_000_000
"""Coordinates compared at once."""


def same_atoms(frames: Frames, *, by_group: bool) -> list[list[int]]:
    """Return the numbers of frames that hold the same atoms in the same order, where there are several."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, frame in frames.items():
        key = (frame.numbers.tobytes(), tuple(frame.pbc), group_of(frame) if by_group else "")
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def rms_displacements(first: Sequence[Atoms], second: Sequence[Atoms]) -> np.ndarray:
    """Return the root mean square displacement of the atoms between every two frames [Angstrom], shape (n, m).

    A common translation is taken out, atoms take the nearest image, and a change of the cell moves them with it.

    Parameters
    ----------
    first
        Frames of the same atoms in the same order.
    second
        Frames of the same.
    """
    cell = np.mean([frame.cell.complete().array for frame in first], axis=0)
    periodic = np.array(first[0].pbc, dtype=float)
    own, other = (
        np.array([frame.cell.complete().scaled_positions(frame.positions) for frame in frames])
        for frames in (first, second)
    )
    rows = max(1, _BLOCK // max(1, other.size))
    return np.concatenate(
        [_rms(own[start : start + rows], other, cell, periodic) for start in range(0, len(own), rows)]
    )


def displacements(first: Atoms, second: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return how atoms move from one frame to another [Angstrom] (n, 3), and the strain of the cell (3, 3).

    Displacements are those on top of the strain, in the mean of the two cells.
    """
    before, after = first.cell.complete().array, second.cell.complete().array
    middle = (before + after) / 2
    scaled = np.linalg.solve(after.T, second.positions.T).T - np.linalg.solve(before.T, first.positions.T).T
    scaled -= np.round(scaled) * first.pbc
    scaled -= scaled.mean(axis=0)
    gradient = np.linalg.solve(middle, after - before)
    return scaled @ middle, (gradient + gradient.T) / 2


def _rms(own: np.ndarray, other: np.ndarray, cell: np.ndarray, periodic: np.ndarray) -> np.ndarray:
    steps = own[:, None] - other[None]
    steps -= np.round(steps) * periodic
    steps -= steps.mean(axis=2, keepdims=True)
    moved: np.ndarray = np.sqrt(((steps @ cell) ** 2).sum(axis=3).mean(axis=2))
    return moved
