"""Energies and volumes of competing crystal structures of one element, each at its own minimum.

Every phase gets an equation of state (:mod:`~mace_ft_bench.properties.eos`) along which whatever its space group leaves
free, c/a and the places of atoms, relaxes at fixed volume. The space group is kept
(:class:`ase.constraints.FixSymmetry`): a phase without mechanical stability, as fcc silicon, stays what it is called.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from ase.constraints import FixSymmetry
from ase.spacegroup import crystal

from mace_ft_bench.errors import StructureError, UnconvergedError, UnstableError, suggestion
from mace_ft_bench.properties import eos
from mace_ft_bench.properties.base import Property
from mace_ft_bench.properties.checks import percent, require, require_crystal, require_positive
from mace_ft_bench.properties.relax import MAX_STEPS
from mace_ft_bench.toml_schema import StrictTable
from mace_ft_bench.units import MEV

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms
    from ase.calculators.calculator import Calculator

Place: TypeAlias = tuple[float, float, float]

GROUND = "ground"
"""Name of the phase that the others are compared with: the structure of the case."""


@dataclass(frozen=True)
class Prototype:
    """A crystal structure of one element."""

    space_group: int
    places: tuple[Place, ...]
    """One of each orbit, in fractions of the conventional cell."""
    c_over_a: float = 1.0
    """Where a relaxation starts. Free only if the lattice is tetragonal or hexagonal."""
    hexagonal: bool = False


_IDEAL = float(np.sqrt(8 / 3))  # c/a of close-packed spheres

PROTOTYPES: Mapping[str, Prototype] = MappingProxyType(
    {
        "diamond": Prototype(227, ((0.0, 0.0, 0.0),)),
        "hexagonal_diamond": Prototype(194, ((1 / 3, 2 / 3, 1 / 16),), _IDEAL, hexagonal=True),
        "beta_sn": Prototype(141, ((0.0, 0.0, 0.0),), 0.55),
        "simple_hexagonal": Prototype(191, ((0.0, 0.0, 0.0),), 0.95, hexagonal=True),
        "hcp": Prototype(194, ((1 / 3, 2 / 3, 1 / 4),), _IDEAL, hexagonal=True),
        "bcc": Prototype(229, ((0.0, 0.0, 0.0),)),
        "fcc": Prototype(225, ((0.0, 0.0, 0.0),)),
        "bc8": Prototype(206, ((0.1003, 0.1003, 0.1003),)),
        "st12": Prototype(96, ((0.0912, 0.0912, 0.0), (0.1730, 0.3784, 0.2486)), 1.177),
    }
)
"""Structures by name. The free places of bc8 (silicon) and st12 (germanium) are those measured by J. S. Kasper and
S. M. Richards, Acta Cryst. 17, 752 (1964), doi 10.1107/S0365110X64001840; they relax, as c/a does."""


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of a comparison of phases."""

    phases: dict[str, float]
    """Name of a prototype -> volume per atom where it starts, as a fraction of that of the relaxed ground state."""
    points: int = 7
    """Number of volumes of every phase, odd."""
    strain: float = 0.03
    """Largest linear strain about the minimum of a phase, in both directions."""
    fmax: float = 1e-3
    """Convergence of every relaxation [eV/Angstrom]; the energy is of second order in it."""
    max_steps: int = MAX_STEPS
    """Limit on the number of steps of every relaxation."""

    def __post_init__(self) -> None:
        require(bool(self.phases), "There are no phases.", fix="name some, for example fcc = 1.0.")
        for name, fraction in self.phases.items():
            require(name in PROTOTYPES, f'No phase is called "{name}".', fix=suggestion(name, PROTOTYPES))
            require(fraction > 0, f"{name} = {fraction} is not positive.", fix="give a fraction of a volume, as 0.8.")
        require_positive(self, "fmax", "max_steps")
        eos.Settings(points=self.points, strain=self.strain)


@dataclass(frozen=True)
class Result:
    """Minima and curves by phase, the ground state under ``ground``."""

    energy_mev_per_atom: dict[str, float]
    """Of the minimum, above that of the ground state. Negative: the model prefers the other phase."""
    volume_angstrom3_per_atom: dict[str, float]
    """Of the minimum."""
    b0_gpa: dict[str, float]
    """Bulk modulus at the minimum, with shape and places relaxed."""
    curve_angstrom3_per_atom: dict[str, tuple[float, ...]]
    """Volumes of the points computed."""
    curve_mev_per_atom: dict[str, tuple[float, ...]]
    """Their energies above the minimum of the ground state."""
    without_minimum: dict[str, str] = field(default_factory=dict)
    """Phases that the model has no minimum of, with the reason."""


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Compute the equations of state.

    A phase whose relaxation or fit fails is listed with the reason; only a ground state that fails ends the whole.

    Raises
    ------
    StructureError
        If the structure is no crystal of one element.
    UnconvergedError, UnstableError
        If the ground state has no equation of state.
    """
    require_crystal(atoms, "A comparison of phases")
    if len(set(atoms.symbols)) != 1:
        raise StructureError(
            f"{atoms.get_chemical_formula()} has several elements.", fix="compare phases of one element."
        )
    fits = {GROUND: _fit(atoms, calc, settings)}
    without_minimum = {}
    for name, fraction in settings.phases.items():
        start = build(name, atoms.get_chemical_symbols()[0], fraction * fits[GROUND].v0_angstrom3_per_atom)
        try:
            fits[name] = _fit(start, calc, settings)
        except (UnconvergedError, UnstableError) as error:
            without_minimum[name] = error.message
    return _collected(fits, without_minimum)


def _collected(fits: Mapping[str, eos.Result], without_minimum: dict[str, str]) -> Result:
    zero = fits[GROUND].e0_ev_per_atom
    return Result(
        energy_mev_per_atom={name: (fit.e0_ev_per_atom - zero) * MEV for name, fit in fits.items()},
        volume_angstrom3_per_atom={name: fit.v0_angstrom3_per_atom for name, fit in fits.items()},
        b0_gpa={name: fit.b0_gpa for name, fit in fits.items()},
        curve_angstrom3_per_atom={name: fit.volumes_angstrom3_per_atom for name, fit in fits.items()},
        curve_mev_per_atom={
            name: tuple((energy - zero) * MEV for energy in fit.energies_ev_per_atom) for name, fit in fits.items()
        },
        without_minimum=without_minimum,
    )


def build(name: str, element: str, volume: float) -> Atoms:
    """Return the primitive cell of a prototype at a volume per atom [Angstrom^3]."""
    prototype = PROTOTYPES[name]
    gamma = 120.0 if prototype.hexagonal else 90.0
    atoms: Atoms = crystal(
        [element] * len(prototype.places),
        list(prototype.places),
        spacegroup=prototype.space_group,
        cellpar=[1.0, 1.0, prototype.c_over_a, 90.0, 90.0, gamma],
        primitive_cell=True,
    )
    atoms.set_cell(atoms.cell.array * (volume * len(atoms) / atoms.cell.volume) ** (1 / 3), scale_atoms=True)
    return atoms


def _fit(atoms: Atoms, calc: Calculator, settings: Settings) -> eos.Result:
    held = atoms.copy()
    held.calc = None
    held.set_constraint(FixSymmetry(held))
    how = eos.Settings(
        points=settings.points,
        strain=settings.strain,
        shape=True,
        fmax=settings.fmax,
        max_steps=settings.max_steps,
    )
    with warnings.catch_warnings():
        # Of steps that are large and break the symmetry; ours follow forces and stresses that have it.
        warnings.filterwarnings("ignore", message="FixSymmetry adjust_cell may be ill behaved")
        return eos.compute(held, calc, how)


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return signed errors of every phase and their root mean square.

    ``energy_mev_per_atom_<phase>`` and ``volume_percent_<phase>`` for every phase that both have;
    ``energy_rms_mev_per_atom`` and ``volume_rms_percent`` over all phases of the reference, left out where the result
    lacks one of them, so that a phase without a minimum cannot improve the mean. The ground state is none of them.
    """
    energies = _of_phases(reference, "energy_mev_per_atom_")
    volumes = _of_phases(reference, "volume_angstrom3_per_atom_")
    known = result.energy_mev_per_atom
    energy_errors = {name: known[name] - value for name, value in energies.items() if name in known}
    volume_errors = {
        name: percent(result.volume_angstrom3_per_atom[name], value) for name, value in volumes.items() if name in known
    }
    errors = {f"energy_mev_per_atom_{name}": error for name, error in energy_errors.items()}
    errors |= {f"volume_percent_{name}": error for name, error in volume_errors.items()}
    if energies and energy_errors.keys() == energies.keys():
        errors["energy_rms_mev_per_atom"] = float(np.sqrt(np.mean(np.square(list(energy_errors.values())))))
    if volumes and volume_errors.keys() == volumes.keys():
        errors["volume_rms_percent"] = float(np.sqrt(np.mean(np.square(list(volume_errors.values())))))
    return errors


def _of_phases(reference: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Return the values of a reference by phase."""
    found = {name.removeprefix(prefix): value for name, value in reference.items() if name.startswith(prefix)}
    return {name: value for name, value in found.items() if name != GROUND}


PROPERTY = Property(name="phases", version=1, settings=Settings, result=Result, compute=compute, compare=compare)
