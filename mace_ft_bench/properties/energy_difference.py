"""Difference of the energies of two structures of one composition.

Which of two adsorption geometries is stable, whether a cluster wets a surface, how far a defect lies above another:
zeros of energy cancel, so models and labels of any convention compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_ft_bench.errors import StructureError
from mace_ft_bench.properties.base import Property, evaluate
from mace_ft_bench.properties.checks import require, require_finite, require_positive
from mace_ft_bench.properties.frame_selection import only
from mace_ft_bench.properties.relax import FMAX, MAX_STEPS, relaxed
from mace_ft_bench.toml_schema import StrictTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of the difference ``E(of) - E(minus)``."""

    of: str
    """Configuration type of one structure."""
    minus: str
    """Configuration type of the one it is compared with."""
    relax: bool = False
    """Whether positions are relaxed first, in the cells given; otherwise energies are of the geometries given."""
    fmax: float = FMAX
    """Convergence of the relaxations [eV/Angstrom]."""
    max_steps: int = MAX_STEPS
    """Limit on the number of steps of each."""

    def __post_init__(self) -> None:
        require_positive(self, "fmax", "max_steps")
        require(self.of != self.minus, f'of and minus are both "{self.of}".', fix="name two configuration types.")


@dataclass(frozen=True)
class Result:
    """Energies of two structures and their difference."""

    difference_ev: float
    """``E(of) - E(minus)``, of the whole cells."""
    atoms: int
    """In each of the two."""
    largest_force_ev_per_angstrom: float
    """On an atom of the geometries the energies are of; by how far they are no minima of the model."""


def compute(frames: Sequence[Atoms], calc: Calculator, settings: Settings) -> Result:
    """Compute the difference.

    Parameters
    ----------
    frames
        One of each of the two configuration types (``info["config_type"]``); others are not looked at.
    calc
        Any ASE calculator.
    settings
        See :class:`Settings`.

    Raises
    ------
    StructureError
        If a configuration type has no frame or several, or the two differ in composition.
    UnconvergedError, UnstableError
        If a relaxation fails, or an energy is not finite.
    """
    pair = [only(frames, name) for name in (settings.of, settings.minus)]
    formulas = [frame.get_chemical_formula(mode="hill") for frame in pair]
    if formulas[0] != formulas[1]:
        raise StructureError(
            f"{settings.of} is {formulas[0]} and {settings.minus} is {formulas[1]}.",
            fix="compare structures of one composition.",
        )
    if settings.relax:
        pair = [relaxed(frame, calc, cell=False, fmax=settings.fmax, max_steps=settings.max_steps) for frame in pair]
    results = evaluate(calc, pair, stress=False)
    require_finite([item.energy for item in results], "an energy")
    return Result(
        difference_ev=results[0].energy - results[1].energy,
        atoms=len(pair[0]),
        largest_force_ev_per_angstrom=max(float(np.linalg.norm(item.forces, axis=1).max()) for item in results),
    )


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return ``difference_ev``, signed, where the reference has it."""
    if "difference_ev" not in reference:
        return {}
    return {"difference_ev": result.difference_ev - reference["difference_ev"]}


PROPERTY = Property(
    name="energy_difference", version=1, settings=Settings, result=Result, compute=compute, compare=compare
)
