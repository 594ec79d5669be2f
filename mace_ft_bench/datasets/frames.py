"""Labelled frames: the keys of labels, how they are attached, compared and written."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.io import write

from mace_ft_bench.atomic import replacing
from mace_ft_bench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

ENERGY = "REF_energy"
"""Total energy [eV], in ``atoms.info``."""
FORCES = "REF_forces"
"""Forces [eV/Angstrom], shape (n, 3), in ``atoms.arrays``."""
STRESS = "REF_stress"
"""Stress [eV/Angstrom^3], tension positive, Voigt order of ASE, shape (6,), in ``atoms.info``."""
CONFIG_TYPE = "config_type"
"""Group of the frame, in ``atoms.info``."""


def labelled(atoms: Atoms, *, energy: float, forces: np.ndarray, stress: np.ndarray | None, config_type: str) -> Atoms:
    """Return a bare copy of the structure that carries the labels and nothing else.

    ASE moves results it recognises into a calculator when it writes files, so labels have names of their own.

    Parameters
    ----------
    atoms
        The structure.
    energy
        Total energy [eV].
    forces
        Forces [eV/Angstrom], shape (n, 3).
    stress
        Stress [eV/Angstrom^3] in ASE's sign and Voigt order, shape (6,), or None.
    config_type
        Group of the frame.

    Raises
    ------
    DataError
        If a shape is wrong, or a label, position or cell vector is not finite.
    """
    frame = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    forces = np.asarray(forces, dtype=float)
    if forces.shape != (len(frame), 3):
        raise DataError(f"Forces have shape {forces.shape} for {len(frame)} atoms.", fix="check the source file.")
    frame.info[ENERGY] = float(energy)
    frame.info[CONFIG_TYPE] = config_type
    frame.arrays[FORCES] = forces
    parts = [np.array([energy]), forces.ravel(), frame.positions.ravel(), frame.cell.array.ravel()]
    if stress is not None:
        frame.info[STRESS] = np.array(stress, dtype=float)
        if frame.info[STRESS].shape != (6,):
            raise DataError(f"A stress has shape {frame.info[STRESS].shape}, not (6,).", fix="check the source file.")
        parts.append(frame.info[STRESS])
    if not np.isfinite(np.concatenate(parts)).all():
        raise DataError(
            f"A label or position of a {config_type} frame is not finite.", fix="remove the frame from the source."
        )
    return frame


def is_same_frame(first: Atoms, second: Atoms, *, tolerance: float = 1e-4) -> bool:
    """Whether two labelled frames are one calculation: same atoms, energy [eV], volume and norms of the forces.

    Both have energies, or forces, or both: one of these that only one frame has makes them different; stresses are not
    compared. Without forces the positions have to be the same.
    """
    return (
        len(first) == len(second)
        and (ENERGY in first.info, FORCES in first.arrays) == (ENERGY in second.info, FORCES in second.arrays)
        and abs(first.info.get(ENERGY, 0.0) - second.info.get(ENERGY, 0.0)) < tolerance
        and abs(first.cell.volume - second.cell.volume) < tolerance * len(first)
        and bool((np.sort(first.numbers) == np.sort(second.numbers)).all())
        and _same_forces_or_positions(first, second, tolerance)
    )


def _same_forces_or_positions(first: Atoms, second: Atoms, tolerance: float) -> bool:
    if FORCES not in first.arrays:
        return bool(np.allclose(first.positions, second.positions, atol=tolerance))
    return bool(np.allclose(_sorted_norms(first), _sorted_norms(second), atol=10 * tolerance))


def without_duplicates(frames: Iterable[Atoms], *, of: Sequence[Atoms] = ()) -> list[Atoms]:
    """Return the frames that repeat neither an earlier one nor one of ``of``, in order.

    Of two that are the same, one without and one with a stress, the latter is kept.
    """
    kept: list[Atoms] = []
    excluded: dict[int, list[Atoms]] = {}
    places: dict[int, list[int]] = {}
    for frame in of:
        excluded.setdefault(len(frame), []).append(frame)
    for frame in frames:
        if any(is_same_frame(frame, other) for other in excluded.get(len(frame), [])):
            continue
        same_size = places.setdefault(len(frame), [])
        same = next((place for place in same_size if is_same_frame(frame, kept[place])), None)
        if same is None:
            same_size.append(len(kept))
            kept.append(frame)
        elif STRESS in frame.info and STRESS not in kept[same].info:
            kept[same] = frame
    return kept


def count_groups(frames: Iterable[Atoms]) -> dict[str, int]:
    """Return the number of frames per config_type."""
    return dict(sorted(Counter(str(frame.info.get(CONFIG_TYPE, "?")) for frame in frames).items()))


def write_extxyz(frames: Sequence[Atoms], path: Path) -> None:
    """Write frames with their labels as extended XYZ, atomically."""
    with replacing(path) as temporary:
        write(temporary, frames, format="extxyz")


def _sorted_norms(frame: Atoms) -> np.ndarray:
    return np.sort(np.linalg.norm(frame.arrays[FORCES], axis=1))
