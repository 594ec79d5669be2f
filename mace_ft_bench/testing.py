"""The contract of a calculator, as assertions anyone can run against their own.

A new model's test is two lines::

    from mace_ft_bench.testing import check_calculator, sheared_crystal
    check_calculator(get_calculator("my-model"), sheared_crystal("Mo", "bcc", 3.16), tolerances=FLOAT64)

Every check raises ``AssertionError`` with the largest deviation. Tolerances have names and units.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase.build import bulk
from ase.stress import voigt_6_to_full_3x3_stress

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator


@dataclass(frozen=True)
class Tolerances:
    """How exact a calculator has to be, per dtype of its arithmetic."""

    energy: float
    """Energies of one structure written in two ways [eV/atom]."""
    forces: float
    """Forces of one structure written in two ways [eV/Angstrom]."""
    stress: float
    """Stresses of one structure written in two ways [eV/Angstrom^3]."""
    force_difference: float
    """Forces against central differences of the energy [eV/Angstrom]."""
    stress_difference: float
    """Stress against central differences of the energy [eV/Angstrom^3]."""
    displacement: float
    """Displacement of the force differences [Angstrom]."""
    strain: float
    """Strain of the stress differences."""


FLOAT64 = Tolerances(
    energy=1e-8,
    forces=1e-8,
    stress=1e-9,
    force_difference=1e-6,
    stress_difference=1e-7,
    displacement=1e-4,
    strain=2e-5,
)
"""Double precision; mace 0.3.16 builds its coupling coefficients of four bodies to 1e-8, which rotations show."""

FLOAT32 = Tolerances(
    energy=1e-5,
    forces=5e-5,
    stress=1e-5,
    force_difference=5e-3,
    stress_difference=1e-3,
    displacement=1e-2,
    strain=5e-3,
)
"""Single precision; differences need large steps to rise above rounding."""


def sheared_crystal(element: str, lattice: str, a: float, *, seed: int = 0) -> Atoms:
    """Return a conventional cell without symmetry: sheared by up to 5 %, atoms displaced by 0.05 Angstrom."""
    atoms = bulk(element, lattice, a=a, cubic=True)
    shear = np.eye(3) + np.array([[0.01, 0.05, 0.0], [0.0, -0.01, -0.03], [0.01, 0.0, 0.0]])
    atoms.set_cell(atoms.cell.array @ shear, scale_atoms=True)
    atoms.rattle(0.05, seed=seed)
    return atoms


def check_calculator(calculator: Calculator, atoms: Atoms, *, tolerances: Tolerances) -> None:
    """Run every check of this module.

    Parameters
    ----------
    calculator
        Any ASE calculator with energy, forces and stress.
    atoms
        A periodic structure without symmetry, see :func:`sheared_crystal`.
    tolerances
        :data:`FLOAT64` or :data:`FLOAT32`.

    Raises
    ------
    AssertionError
        On the first broken rule.
    """
    check_forces(calculator, atoms, tolerances=tolerances)
    check_stress(calculator, atoms, tolerances=tolerances)
    check_net_force(calculator, atoms, tolerances=tolerances)
    check_rotation(calculator, atoms, tolerances=tolerances)
    check_translation(calculator, atoms, tolerances=tolerances)
    check_permutation(calculator, atoms, tolerances=tolerances)
    check_extensivity(calculator, atoms, tolerances=tolerances)
    check_no_state(calculator, atoms, tolerances=tolerances)
    check_pickling(calculator, atoms, tolerances=tolerances)
    check_energies(calculator, atoms, tolerances=tolerances)
    check_refusals(calculator, atoms, tolerances=tolerances)


def check_forces(calculator: Calculator, atoms: Atoms, *, tolerances: Tolerances) -> None:
    """Forces are minus the gradient of the energy (central differences, every component)."""
    expected = np.array(
        [
            [_force_by_difference(calculator, atoms, index, axis, tolerances.displacement) for axis in range(3)]
            for index in range(len(atoms))
        ]
    )
    _close(_with(calculator, atoms).get_forces(), expected, tolerances.force_difference, "forces and -dE/dx [eV/Å]")


def check_stress(calculator: Calculator, atoms: Atoms, *, tolerances: Tolerances) -> None:
    """Stress is the strain derivative of the energy per volume, tension positive, in ASE's Voigt order."""
    expected = np.zeros((3, 3))
    for first in range(3):
        for second in range(3):
            up, down = (
                _with(calculator, _strained(atoms, first, second, sign * tolerances.strain)).get_potential_energy()
                for sign in (1, -1)
            )
            expected[first, second] = (up - down) / (2 * tolerances.strain * atoms.get_volume())
    found = voigt_6_to_full_3x3_stress(_with(calculator, atoms).get_stress())
    _close(found, expected, tolerances.stress_difference, "stress and dE/dε/V [eV/Å³]")


def check_net_force(calculator: Calculator, atoms: Atoms, *, tolerances: Tolerances) -> None:
    """Forces add up to zero."""
    total = _with(calculator, atoms).get_forces().sum(axis=0)
    _close(total, np.zeros(3), tolerances.forces * len(atoms), "net force [eV/Å]")


def check_rotation(calculator: Calculator, atoms: Atoms, *, tolerances: Tolerances) -> None:
    """A rotated structure has the same energy and rotated forces and stress."""
    rotated = atoms.copy()
    rotated.rotate(77.0, (1.0, 2.0, -3.0), rotate_cell=True)
    matrix = np.linalg.solve(atoms.cell.array, rotated.cell.array)
    before, after = _with(calculator, atoms), _with(calculator, rotated)
    energies = before.get_potential_energy(), after.get_potential_energy()
    forces, stress = before.get_forces() @ matrix, before.get_stress(voigt=False)
    _close(energies[1], energies[0], tolerances.energy * len(atoms), "energy after rotation [eV]")
    _close(after.get_forces(), forces, tolerances.forces, "forces after rotation [eV/Å]")
    _close(after.get_stress(voigt=False), matrix.T @ stress @ matrix, tolerances.stress, "stress after rotation")


def check_translation(calculator: Calculator, atoms: Atoms, *, tolerances: Tolerances) -> None:
    """Moving all atoms, and wrapping them back into the cell, changes nothing."""
    moved = atoms.copy()
    moved.translate((0.3, -1.7, 5.1))
    moved.wrap()
    before = _snapshot(calculator, atoms)
    _same(_snapshot(calculator, moved), before, len(atoms), tolerances, "translation")


def check_permutation(calculator: Calculator, atoms: Atoms, *, tolerances: Tolerances) -> None:
    """Renumbering the atoms renumbers the forces."""
    order = np.arange(len(atoms))[::-1]
    energy, forces, stress = _snapshot(calculator, atoms)
    expected = (energy, forces[order], stress)
    _same(_snapshot(calculator, atoms[order]), expected, len(atoms), tolerances, "permutation")


def check_extensivity(calculator: Calculator, atoms: Atoms, *, tolerances: Tolerances) -> None:
    """A supercell has as many times the energy, repeated forces and the same stress."""
    energy, forces, stress = _snapshot(calculator, atoms)
    supercell = atoms.repeat((2, 1, 2))
    expected = (4 * energy, np.tile(forces, (4, 1)), stress)
    _same(_snapshot(calculator, supercell), expected, len(supercell), tolerances, "repetition")


def check_no_state(calculator: Calculator, atoms: Atoms, *, tolerances: Tolerances) -> None:
    """Evaluating another structure in between changes nothing, and the caller's object is not modified."""
    kept = atoms.copy()
    first = _snapshot(calculator, atoms)
    _snapshot(calculator, _strained(atoms.repeat((1, 2, 1)), 0, 0, 0.05))
    _same(_snapshot(calculator, atoms), first, len(atoms), tolerances, "another structure in between")
    if atoms != kept:
        raise AssertionError("The calculator modified the structure.")


def check_pickling(calculator: Calculator, atoms: Atoms, *, tolerances: Tolerances) -> None:
    """Atoms with the calculator attached survive pickling."""
    attached = _with(calculator, atoms)
    first = _snapshot(calculator, atoms)
    loaded = pickle.loads(pickle.dumps(attached))  # noqa: S301 - our own bytes
    _same(_snapshot(loaded.calc, loaded), first, len(atoms), tolerances, "pickling")


def check_energies(calculator: Calculator, atoms: Atoms, *, tolerances: Tolerances) -> None:
    """Site energies, where there are any, add up to the energy; the free energy is the energy."""
    attached = _with(calculator, atoms)
    energy = attached.get_potential_energy()
    free = attached.get_potential_energy(force_consistent=True)
    _close(free, energy, tolerances.energy * len(atoms), "free energy and energy [eV]")
    if "energies" in calculator.implemented_properties:
        total = attached.get_potential_energies().sum()
        _close(total, energy, tolerances.energy * len(atoms), "sum of site energies and energy [eV]")


def check_refusals(calculator: Calculator, atoms: Atoms, *, tolerances: Tolerances) -> None:  # noqa: ARG001 - as all checks
    """Structures that cannot be evaluated raise an error instead of returning a number."""
    unknown, flat, lost = atoms.copy(), atoms.copy(), atoms.copy()
    unknown.numbers[0] = 118  # oganesson, in nobody's training set
    flat.set_cell(flat.cell.array * np.array([[1], [1], [0]]))
    lost.positions[0, 0] = np.nan
    broken = {"no atoms": atoms[:0], "an unknown element": unknown, "a flat cell": flat, "a position of NaN": lost}
    for what, structure in broken.items():
        try:
            energy = _with(calculator, structure).get_potential_energy()
        except Exception:  # noqa: BLE001, S112 - any refusal is good; a number is not
            continue
        raise AssertionError(f"The calculator returns {energy} eV for a structure with {what}.")


def _with(calculator: Calculator, atoms: Atoms) -> Atoms:
    copy: Atoms = atoms.copy()
    copy.calc = calculator
    return copy


def _snapshot(calculator: Calculator, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
    attached = _with(calculator, atoms)
    return attached.get_potential_energy(), attached.get_forces().copy(), attached.get_stress().copy()


def _force_by_difference(calculator: Calculator, atoms: Atoms, index: int, axis: int, step: float) -> float:
    energies = []
    for sign in (1, -1):
        moved = _with(calculator, atoms)
        moved.positions[index, axis] += sign * step
        energies.append(moved.get_potential_energy())
    return float((energies[1] - energies[0]) / (2 * step))


def _strained(atoms: Atoms, first: int, second: int, amount: float) -> Atoms:
    gradient = np.eye(3)
    gradient[first, second] += amount / 2
    gradient[second, first] += amount / 2
    strained: Atoms = atoms.copy()
    strained.set_cell(atoms.cell.array @ gradient, scale_atoms=True)
    return strained


def _same(
    found: tuple[float, np.ndarray, np.ndarray],
    expected: tuple[float, np.ndarray, np.ndarray],
    atoms: int,
    tolerances: Tolerances,
    what: str,
) -> None:
    _close(found[0], expected[0], tolerances.energy * atoms, f"energy after {what} [eV]")
    _close(found[1], expected[1], tolerances.forces, f"forces after {what} [eV/Å]")
    _close(found[2], expected[2], tolerances.stress, f"stress after {what} [eV/Å³]")


def _close(found: object, expected: object, tolerance: float, what: str) -> None:
    deviation = float(np.abs(np.asarray(found) - np.asarray(expected)).max())
    if not deviation <= tolerance:
        raise AssertionError(f"{what}: largest deviation {deviation:.3g}, allowed {tolerance:.3g}")
