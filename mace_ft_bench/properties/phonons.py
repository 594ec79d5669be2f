"""Phonons by finite displacements: dispersion, density of states, thermal properties.

Symmetry, force constants and the sums over the Brillouin zone are phonopy's: A. Togo, J. Phys. Soc. Jpn. 92, 012001
(2023), doi 10.7566/JPSJ.92.012001. There is no correction for long-range dipoles: of polar crystals the splitting of
longitudinal and transverse optical modes at Gamma is absent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.dft.kpoints import BandPath, parse_path_string
from ase.spacegroup.symmetrize import check_symmetry, refine_symmetry
from ase.units import kJ, mol
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.cells import guess_primitive_matrix

from mace_ft_bench.errors import CardError, DataError, StructureError
from mace_ft_bench.properties.base import Property, evaluate
from mace_ft_bench.properties.checks import percent, require, require_crystal, require_finite, require_positive
from mace_ft_bench.properties.relax import FMAX, MAX_STEPS, relaxed
from mace_ft_bench.toml_schema import StrictTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase.calculators.calculator import Calculator

IMAGINARY_THZ = 0.1
"""Frequencies below minus this are imaginary modes; above, numerical noise of the acoustic ones at Gamma."""
_FEWEST_POINTS = 50  # with fewer, short lines of a path get none
_POINT = "thz_at_"
"""Prefix of reference values: ``thz_at_X`` holds the frequencies at the point X."""


@dataclass(frozen=True)
class Settings(StrictTable):
    """Settings of phonons."""

    supercell_length: float = 12.0
    """Opposite faces of the supercell are at least this far apart, and so are its images [Angstrom]."""
    displacement: float = 0.01
    """Displacement of an atom [Angstrom]."""
    path: str = ""
    """Path through the Brillouin zone in ASE's notation, for example ``GXWKGLUWLK,UX``; by default the one of the
    lattice (W. Setyawan, S. Curtarolo, Comput. Mater. Sci. 49, 299 (2010))."""
    points: int = 120
    """Number of q-points on the path."""
    mesh_length: float = 60.0
    """Density of the mesh of the Brillouin zone: its numbers are this length times the reciprocal vectors
    [Angstrom]."""
    symprec: float = 5e-3
    """Distance within which atoms and vectors count as equivalent [Angstrom]: a relaxed crystal is set on its symmetry
    before atoms are displaced, because its noise would hide it."""
    temperature: float = 300.0
    """Temperature of the thermal properties [K]."""
    relax: bool = True
    """Whether positions and cell are relaxed first."""
    fmax: float = FMAX
    """Convergence of the relaxation, as in the property ``relaxation``."""
    max_steps: int = MAX_STEPS
    """Limit on the number of steps of the relaxation."""

    def __post_init__(self) -> None:
        names = (
            "supercell_length",
            "displacement",
            "points",
            "mesh_length",
            "symprec",
            "temperature",
            "fmax",
            "max_steps",
        )
        require_positive(self, *names)
        require(self.points >= _FEWEST_POINTS, f"points = {self.points} is too few.", fix="120 is usual.")
        require(self.displacement < 0.5, "displacement is no small one.", fix="0.01 Angstrom is usual.")  # noqa: PLR2004


@dataclass(frozen=True)
class Result:
    """Frequencies [THz] and what follows from them; imaginary frequencies are negative numbers."""

    space_group: str
    """International symbol, as found after the relaxation."""
    thz_at: dict[str, tuple[float, ...]]
    """Frequencies at the special points of the path, ascending."""
    path_distance: tuple[float, ...]
    """Length along the path [1/Angstrom]."""
    path_thz: tuple[tuple[float, ...], ...]
    """Frequencies at every q-point of the path, ascending."""
    path_labels: tuple[tuple[float, str], ...]
    """Special points: length along the path, name."""
    dos_thz: tuple[float, ...]
    dos_states_per_thz_and_atom: tuple[float, ...]
    lowest_thz: float
    """Lowest frequency on the mesh and on the path."""
    imaginary: bool
    """Whether ``lowest_thz`` is below -0.1 THz: the crystal is not stable as it stands."""
    zero_point_mev_per_atom: float | None
    """None, as all thermal properties, if there are imaginary modes."""
    free_energy_mev_per_atom: float | None
    """Of the vibrations, at the temperature of the settings."""
    entropy_j_per_mol_k: float | None
    """Per mole of atoms."""
    heat_capacity_j_per_mol_k: float | None
    """At constant volume, per mole of atoms; 24.94 in the classical limit."""
    supercell: tuple[int, int, int]
    supercell_atoms: int
    displaced_supercells: int


def compute(atoms: Atoms, calc: Calculator, settings: Settings) -> Result:
    """Compute phonons of a crystal.

    Raises
    ------
    StructureError
        If the structure is not periodic in three dimensions, or the relaxation took away some of its symmetry.
    CardError
        If the path names a point that the lattice does not have.
    UnconvergedError, UnstableError
        If the relaxation fails, or a force is not finite.
    """
    require_crystal(atoms, "A phonon")
    crystal = atoms.copy()
    if settings.relax:
        crystal = relaxed(atoms, calc, cell=True, fmax=settings.fmax, max_steps=settings.max_steps)
    group = _set_on_symmetry(crystal, atoms, settings.symprec)
    phonon = displaced(crystal, settings)
    path = _path(phonon, settings)
    _add_force_constants(phonon, calc)
    return _summarise(phonon, path, group, settings)


def _set_on_symmetry(crystal: Atoms, start: Atoms, symprec: float) -> str:
    """Move a crystal onto the symmetry that it has within ``symprec`` and return its space group.

    Raises
    ------
    StructureError
        If it has lost operations that the structure at the start had.
    """
    before, after = (check_symmetry(atoms, symprec) for atoms in (start, crystal))
    if len(after.rotations) < len(before.rotations):
        raise StructureError(
            f"The relaxation turned {before.international} into {after.international}.",
            fix="raise symprec if that is noise; otherwise the model does not hold this crystal: start from another.",
        )
    refine_symmetry(crystal, symprec)
    return str(after.international)


def displaced(crystal: Atoms, settings: Settings) -> Phonopy:
    """Return a phonopy object that knows the supercells with displaced atoms, forces still missing."""
    unit = PhonopyAtoms(
        symbols=crystal.get_chemical_symbols(),
        cell=crystal.cell.array,
        positions=crystal.positions,
        masses=crystal.get_masses(),
    )
    repeats = np.diag(supercell_of(crystal, settings.supercell_length))
    phonon = Phonopy(unit, supercell_matrix=repeats, primitive_matrix=guess_primitive_matrix(unit))
    phonon.generate_displacements(distance=settings.displacement)
    return phonon


def _path(phonon: Phonopy, settings: Settings) -> BandPath:
    cell = _atoms(phonon.primitive).cell
    try:
        path: BandPath = cell.bandpath(settings.path or None, npoints=settings.points)
    except KeyError as error:
        known = ", ".join(cell.bandpath().special_points)
        raise CardError(f"The path {settings.path} names {error}.", fix=f"the lattice has {known}.") from error
    return path


def _add_force_constants(phonon: Phonopy, calc: Calculator) -> None:
    """Evaluate the displaced supercells; force constants are symmetrised."""
    frames = [_atoms(cell) for cell in phonon.supercells_with_displacements or ()]
    forces = np.array([item.forces for item in evaluate(calc, frames, stress=False)])
    require_finite(forces.ravel(), "a force")
    phonon.forces = forces
    phonon.produce_force_constants(show_drift=False)
    phonon.symmetrize_force_constants(show_drift=False)


def supercell_of(atoms: Atoms, length: float) -> tuple[int, int, int]:
    """Return how often the cell is repeated along each vector until opposite faces are a length [Angstrom] apart."""
    a, b, c = (math.ceil(length * float(np.linalg.norm(row)) - 1e-6) for row in atoms.cell.reciprocal())
    return a, b, c


def _atoms(cell: PhonopyAtoms) -> Atoms:
    return Atoms(cell.symbols, positions=cell.positions, cell=cell.cell, pbc=True)


def _summarise(phonon: Phonopy, path: BandPath, group: str, settings: Settings) -> Result:
    distance, places, labels = path.get_linear_kpoint_axis()
    on_path = _frequencies(phonon, path.kpts)
    names = sorted({name for line in parse_path_string(path.path) for name in line})
    special = dict(zip(names, _frequencies(phonon, [path.special_points[name] for name in names]), strict=True))
    on_mesh = phonon.run_mesh(settings.mesh_length, is_gamma_center=True).frequencies
    lowest = float(min(on_mesh.min(), on_path.min()))
    dos_thz, dos = _density_of_states(phonon)
    matrix = np.diag(phonon.supercell_matrix)
    return Result(
        space_group=group,
        thz_at={name: tuple(values.tolist()) for name, values in special.items()},
        path_distance=tuple((distance / (2 * np.pi)).tolist()),
        path_thz=tuple(tuple(row) for row in on_path.tolist()),
        path_labels=tuple((float(place / (2 * np.pi)), label) for place, label in zip(places, labels, strict=True)),
        dos_thz=dos_thz,
        dos_states_per_thz_and_atom=dos,
        lowest_thz=lowest,
        imaginary=lowest < -IMAGINARY_THZ,
        **_thermal(phonon, settings.temperature, stable=lowest >= -IMAGINARY_THZ),
        supercell=(int(matrix[0]), int(matrix[1]), int(matrix[2])),
        supercell_atoms=len(phonon.supercell),
        displaced_supercells=len(phonon.supercells_with_displacements or ()),
    )


def _frequencies(phonon: Phonopy, points: Any) -> np.ndarray:  # noqa: ANN401 - q-points (n, 3), reduced
    """Frequencies [THz], ascending at every q-point."""
    return np.sort(phonon.run_qpoints(points).frequencies, axis=1)


def _density_of_states(phonon: Phonopy) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Frequencies [THz] and states [1/THz] per atom, three in all."""
    dos: Any = phonon.run_total_dos()
    return tuple(dos.frequency_points.tolist()), tuple((dos.dos / len(phonon.primitive)).tolist())


def _thermal(phonon: Phonopy, temperature: float, *, stable: bool) -> dict[str, float | None]:
    names = ("zero_point_mev_per_atom", "free_energy_mev_per_atom", "entropy_j_per_mol_k", "heat_capacity_j_per_mol_k")
    if not stable:
        return dict.fromkeys(names)
    # The mesh has its numerical noise at Gamma only, where the acoustic modes add nothing to a converged sum.
    found: Any = phonon.run_thermal_properties(temperatures=[0.0, temperature], cutoff_frequency=IMAGINARY_THZ)
    atoms = len(phonon.primitive)
    mev = 1000 * kJ / mol / atoms
    values = (
        found.free_energy[0] * mev,
        found.free_energy[1] * mev,
        found.entropy[1] / atoms,
        found.heat_capacity[1] / atoms,
    )
    return dict(zip(names, map(float, values), strict=True))


def compare(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    """Return signed errors where the reference has values.

    ``thz_at_<point>`` of the reference lists frequencies, ascending: ``frequency_rms_thz`` and ``frequency_percent``,
    the mean deviation relative to the mean frequency, are taken over all that are given but the acoustic ones at
    Gamma, which are zero by construction; ``highest_percent`` is the deviation of the highest one.
    ``heat_capacity_percent`` and ``zero_point_percent`` are absent if the crystal has imaginary modes: a metric without
    an error scores zero.

    Raises
    ------
    DataError
        If the reference names a point that is not on the path, or gives another number of modes.
    """
    errors = _frequency_errors(result, reference)
    thermal = {"zero_point_percent": "zero_point_mev_per_atom", "heat_capacity_percent": "heat_capacity_j_per_mol_k"}
    for metric, name in thermal.items():
        value = getattr(result, name)
        if name in reference and value is not None:
            errors[metric] = percent(value, reference[name])
    return errors


def _frequency_errors(result: Result, reference: Mapping[str, Any]) -> dict[str, float]:
    given = {key.removeprefix(_POINT): value for key, value in reference.items() if key.startswith(_POINT)}
    if not given:
        return {}
    pairs = [_found(result, name, expected) for name, expected in given.items()]
    found, expected = np.concatenate(pairs, axis=1)
    highest = int(expected.argmax())
    return {
        "frequency_rms_thz": float(np.sqrt(np.mean((found - expected) ** 2))),
        "frequency_percent": percent(float(found.mean()), float(expected.mean())),
        "highest_percent": percent(float(found[highest]), float(expected[highest])),
    }


def _found(result: Result, name: str, expected: Sequence[float]) -> np.ndarray:
    """Frequencies of the result and of the reference at a point, shape (2, modes); at Gamma without the acoustic."""
    if name not in result.thz_at:
        known = ", ".join(sorted(result.thz_at))
        raise DataError(f'The reference has frequencies at "{name}".', fix=f"the path has {known}; change either.")
    if len(result.thz_at[name]) != len(expected):
        raise DataError(
            f"The reference has {len(expected)} frequencies at {name}, the crystal {len(result.thz_at[name])}.",
            fix="list every mode, degenerate ones as often as they occur.",
        )
    pair = np.array([result.thz_at[name], expected])
    if name != "G":
        return pair
    acoustic = np.argsort(np.abs(pair[1]))[:3]
    return np.delete(pair, acoustic, axis=1)


PROPERTY = Property(name="phonons", version=2, settings=Settings, result=Result, compute=compute, compare=compare)
