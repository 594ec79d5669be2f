"""Formation energies of defects on geometries that come as frames, in an elemental crystal.

``E_defect - N e_crystal`` of every frame. Defects that no builder makes, such as clusters of interstitials, start where
another calculation found them; the crystal is built and relaxed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_ft_bench.errors import StructureError
from mace_ft_bench.properties.base import Property, evaluate
from mace_ft_bench.properties.checks import require, require_finite, require_positive
from mace_ft_bench.properties.frame_selection import only
from mace_ft_bench.properties.relax import MAX_STEPS, relaxed
from mace_ft_bench.properties.structures import build
from mace_ft_bench.results.case import BulkStructure  # noqa: TC001 - parsing reads the annotation
from mace_ft_bench.toml_schema import StrictTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of formation energies."""

    of: tuple[str, ...]
    """Configuration types, each of one frame."""
    crystal: BulkStructure
    """The perfect crystal, where its relaxation starts."""
    relax: bool = True
    """Whether the atoms of the defects are relaxed. The crystal is, in any case."""
    cell: bool = True
    """Whether the cells of the defects are relaxed as well, as befits frames that come from other lattice constants."""
    fmax: float = 1e-2
    """Convergence of these relaxations [eV/Angstrom]; the energy is of second order in it."""
    max_steps: int = MAX_STEPS
    """Limit on the number of steps of every relaxation."""

    def __post_init__(self) -> None:
        require_positive(self, "fmax", "max_steps")
        require(bool(self.of), "of is empty.", fix="name the configuration types of the defects.")
        require(len(set(self.of)) == len(self.of), "of names a configuration type twice.", fix="name each once.")


@dataclass(frozen=True)
class Result:
    """Formation energies by configuration type."""

    formation_energy_ev: dict[str, float]
    """Relaxed, if the settings say so."""
    unrelaxed_ev: dict[str, float]
    """Of the geometries given, against the crystal relaxed by the model."""
    largest_displacement_angstrom: dict[str, float]
    """Of an atom by the relaxation, without the strain of the cell and a common translation."""


def compute(frames: Sequence[Atoms], calc: Calculator, settings: Settings) -> Result:
    """Compute the formation energies.

    Parameters
    ----------
    frames
        One of each configuration type (``info["config_type"]``); others are not looked at.
    calc
        Any ASE calculator.
    settings
        See :class:`Settings`.

    Raises
    ------
    StructureError
        If a configuration type has no frame or several, or is not of the element of the crystal alone.
    UnconvergedError, UnstableError
        If a relaxation fails, or an energy is not finite.
    """
    starts = {name: only(frames, name) for name in settings.of}
    crystal = relaxed(build(settings.crystal), calc, cell=True, max_steps=settings.max_steps)
    for name, start in starts.items():
        _require_element(start, crystal, name)
    given = [item.energy for item in evaluate(calc, starts.values(), stress=False)]
    require_finite(given, "an energy")
    energies, moved = given, [0.0] * len(given)
    if settings.relax:
        how: dict[str, Any] = {"cell": settings.cell, "fmax": settings.fmax, "max_steps": settings.max_steps}
        finals = [relaxed(start, calc, **how) for start in starts.values()]
        energies = [float(final.get_potential_energy()) for final in finals]
        moved = [_largest_displacement(*pair) for pair in zip(starts.values(), finals, strict=True)]
    perfect = [crystal.get_potential_energy() / len(crystal) * len(start) for start in starts.values()]
    return Result(
        formation_energy_ev=_by_name(settings.of, np.subtract(energies, perfect)),
        unrelaxed_ev=_by_name(settings.of, np.subtract(given, perfect)),
        largest_displacement_angstrom=_by_name(settings.of, moved),
    )


def _by_name(names: Sequence[str], values: Any) -> dict[str, float]:  # noqa: ANN401 - any sequence of numbers
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _require_element(defect: Atoms, crystal: Atoms, name: str) -> None:
    if set(defect.symbols) != set(crystal.symbols) or len(set(crystal.symbols)) != 1:
        raise StructureError(
            f"{name} is {defect.get_chemical_formula()} and the crystal {crystal.get_chemical_formula()}.",
            fix="use defects in the crystal of one element: others depend on chemical potentials.",
        )


def _largest_displacement(start: Atoms, final: Atoms) -> float:
    fractions = final.get_scaled_positions(wrap=False) - start.get_scaled_positions(wrap=False)
    return float(np.linalg.norm((fractions - fractions.mean(axis=0)) @ final.cell.array, axis=1).max())


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return signed errors ``formation_energy_ev_<type>`` [eV] and the root mean square ``formation_rms_ev`` of them.

    Configuration types are those of the reference that the result has too. Without one of them there is no root mean
    square, so that leaving a hard one out cannot improve it.
    """
    prefix = "formation_energy_ev_"
    values = {name.removeprefix(prefix): value for name, value in reference.items() if name.startswith(prefix)}
    known = result.formation_energy_ev
    errors = {f"{prefix}{name}": known[name] - value for name, value in values.items() if name in known}
    if errors and len(errors) == len(values):
        errors["formation_rms_ev"] = float(np.sqrt(np.mean(np.square(list(errors.values())))))
    return errors


PROPERTY = Property(
    name="formation_energy", version=1, settings=Settings, result=Result, compute=compute, compare=compare
)
