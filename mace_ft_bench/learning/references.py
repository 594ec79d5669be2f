"""How far a teacher's labels are from density functional ones, and whether their energies share a reference.

Energies of two sources can be mixed if their difference does not depend on the composition. The check: label frames
that have real labels, fit the difference of energies per atom by one constant per element, and look at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mace_ft_bench.composition import fit_element_zeros
from mace_ft_bench.datasets.frames import CONFIG_TYPE, ENERGY, FORCES, STRESS
from mace_ft_bench.errors import DataError, StructureError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator


@dataclass(frozen=True)
class Compared:
    """One frame with real labels beside the teacher's."""

    formula: str
    source: str
    """Group of the frame."""
    shares: dict[str, float]
    """Part of the atoms that an element has."""
    energy_ev_per_atom: float
    """Teacher, corrections taken out, less real."""
    force_rmse_ev_per_a: float
    stress_rmse_ev_per_a3: float | None
    """None if the frame has no stress."""
    correction_ev_per_atom: float
    """What was taken out of the teacher's energy."""


@dataclass(frozen=True)
class Comparison:
    """A teacher beside real labels."""

    frames: tuple[Compared, ...]
    refused: int
    """Frames that the teacher refused."""
    per_element_ev: dict[str, float]
    """Least-squares constants [eV/atom] of the difference in energy; of the smallest norm where frames leave them
    open."""

    @property
    def energies(self) -> np.ndarray:
        """Differences in energy [eV/atom], shape (frames,)."""
        return np.array([frame.energy_ev_per_atom for frame in self.frames])

    @property
    def after_fit(self) -> np.ndarray:
        """What the constants per element do not explain [eV/atom], shape (frames,)."""
        explained = [
            sum(share * self.per_element_ev[symbol] for symbol, share in frame.shares.items()) for frame in self.frames
        ]
        differences: np.ndarray = self.energies - np.array(explained)
        return differences

    @property
    def force_rmse_ev_per_a(self) -> float:
        """Root mean square over the frames of their force errors [eV/Angstrom]."""
        return _rmse(np.array([frame.force_rmse_ev_per_a for frame in self.frames]))

    def frames_with(self, element: str) -> int:
        """Return how many frames hold an element, which says what its constant is worth."""
        return sum(element in frame.shares for frame in self.frames)


def compare(
    frames: Sequence[Atoms], teacher: Calculator, correction: Callable[[Atoms], float] | None = None
) -> Comparison:
    """Label frames that have real labels, and compare.

    Parameters
    ----------
    frames
        Frames with ``REF_energy`` and ``REF_forces``.
    teacher
        Calculator with energy, forces and stress.
    correction
        Energy [eV] of a structure that the teacher's energies contain and real ones do not.

    Raises
    ------
    DataError
        If the teacher refuses every frame.
    """
    found = []
    for frame in frames:
        atoms = frame.copy()
        atoms.calc = teacher
        try:
            atoms.get_potential_energy()
        except StructureError:
            continue
        found.append(_compared(frame, atoms, correction(frame) if correction is not None else 0.0))
    if not found:
        raise DataError(f"The teacher refuses all of {len(frames)} real frames.", fix="check its elements.")
    return Comparison(tuple(found), len(frames) - len(found), _per_element(found))


def _compared(frame: Atoms, labelled: Atoms, correction: float) -> Compared:
    count = len(frame)
    symbols, numbers = np.unique(np.array(frame.get_chemical_symbols()), return_counts=True)
    energy = labelled.get_potential_energy() - correction
    return Compared(
        formula=frame.get_chemical_formula(empirical=True),
        source=str(frame.info.get(CONFIG_TYPE, "")),
        shares={str(symbol): float(number) / count for symbol, number in zip(symbols, numbers, strict=True)},
        energy_ev_per_atom=float(energy - frame.info[ENERGY]) / count,
        force_rmse_ev_per_a=_rmse(labelled.get_forces() - frame.arrays[FORCES]),
        stress_rmse_ev_per_a3=_rmse(labelled.get_stress() - frame.info[STRESS]) if STRESS in frame.info else None,
        correction_ev_per_atom=correction / count,
    )


def _rmse(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(difference))))


def _per_element(frames: Sequence[Compared]) -> dict[str, float]:
    symbols = sorted({symbol for frame in frames for symbol in frame.shares})
    shares = np.array([[frame.shares.get(symbol, 0.0) for symbol in symbols] for frame in frames])
    fitted, _ = fit_element_zeros(shares, np.array([frame.energy_ev_per_atom for frame in frames]))
    return dict(zip(symbols, fitted.tolist(), strict=True))
