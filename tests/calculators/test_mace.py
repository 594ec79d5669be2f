"""The strict MACE calculator: bad input, ASE's tools, heads, cells."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.units import fs
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from mace_ft_bench import get_calculator
from mace_ft_bench.calculators.mace import MaceCalculator
from mace_ft_bench.errors import StructureError, UnknownNameError, UnsupportedElementError

from ..conftest import build


@pytest.fixture(scope="module")
def tiny(tiny_file):
    return get_calculator(tiny_file)


@pytest.fixture(scope="module")
def mo_ft():
    return get_calculator("mo-ft")


def with_calculator(atoms, calculator):
    atoms.calc = calculator
    return atoms


def test_unknown_element_is_named(mo_ft):
    atoms = with_calculator(bulk("W") * (2, 1, 1), mo_ft)
    atoms.symbols[0] = "Mo"
    with pytest.raises(UnsupportedElementError, match=r"not trained on W; it knows Mo\."):
        atoms.get_potential_energy()


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(), "no atoms"),
        (Atoms("Mo2", positions=[[0, 0, 0], [0, 0, np.nan]], cell=[3, 3, 3], pbc=True), r"atoms \[1\] are not finite"),
        (Atoms("Mo", positions=[[0, np.inf, 0]]), r"atoms \[0\] are not finite"),
        (Atoms("Mo", cell=[3, 3, 0], pbc=True), "no extent along its periodic directions"),
        (Atoms("Mo", pbc=True), "no extent"),
        (Atoms("Mo", cell=[[3, 0, 0], [6, 0, 0], [0, 0, 3]], pbc=True), "no extent"),
        (Atoms("Mo", cell=[[3, 0, 0], [0, np.nan, 0], [0, 0, 3]], pbc=True), "cell is not finite"),
    ],
    ids=["empty", "nan", "inf", "flat", "no cell", "parallel", "nan cell"],
)
def test_bad_structures(mo_ft, atoms, message):
    with pytest.raises(StructureError, match=message):
        with_calculator(atoms, mo_ft).get_potential_energy()


def test_all_results(mo_ft):
    atoms = with_calculator(bulk("Mo", cubic=True), mo_ft)
    atoms.rattle(0.05, seed=2)
    energy = atoms.get_potential_energy()
    assert atoms.get_potential_energy(force_consistent=True) == energy
    assert atoms.get_potential_energies().sum() == pytest.approx(energy, abs=1e-12)
    assert atoms.get_forces().shape == (2, 3)
    assert atoms.get_stress().shape == (6,)


def test_molecule_has_forces_and_no_stress(tiny):
    atoms = with_calculator(Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.2]]), tiny)
    assert np.abs(atoms.get_forces()).max() > 0
    with pytest.raises(PropertyNotImplementedError, match="three independent vectors"):
        atoms.get_stress()


def test_molecule_equals_a_large_box(tiny):
    free = with_calculator(Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.2]]), tiny)
    boxed = with_calculator(Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.2]], cell=[30, 30, 30], pbc=True), tiny)
    assert free.get_potential_energy() == pytest.approx(boxed.get_potential_energy(), abs=1e-10)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, True), (True, False, False)])
def test_stress_of_mixed_periodicity_is_over_the_users_cell(tiny, pbc):
    atoms = with_calculator(Atoms("Si2", positions=[[0, 0, 5], [0.1, 0.2, 7.2]], cell=[3, 3.5, 14], pbc=pbc), tiny)
    axis, step, energies = pbc.index(True), 1e-5, []
    for sign in (1, -1):
        strained = atoms.copy()
        cell = atoms.cell.array.copy()
        factors = np.ones(3)
        factors[axis] += sign * step
        strained.set_cell(cell * factors, scale_atoms=True)
        energies.append(with_calculator(strained, tiny).get_potential_energy())
    expected = (energies[0] - energies[1]) / (2 * step * atoms.get_volume())
    assert atoms.get_stress()[axis] == pytest.approx(expected, abs=1e-8)


def test_one_atom_cell_much_smaller_than_the_cutoff(tiny):
    """Images of the atom itself are neighbours: the primitive cell equals the supercell."""
    one = with_calculator(bulk("Mo"), tiny)
    many = with_calculator(bulk("Mo") * (3, 3, 3), tiny)
    assert many.get_potential_energy() == pytest.approx(27 * one.get_potential_energy(), abs=1e-9)


def test_isolated_atom_is_the_reference_energy(tiny):
    atoms = with_calculator(Atoms("Mo", cell=[20, 20, 20], pbc=True), tiny)
    energy = atoms.get_potential_energy()
    assert np.isfinite(energy)
    assert atoms.get_forces() == pytest.approx(0.0, abs=1e-12)


def test_heads(two_heads_file):
    with pytest.raises(UnknownNameError, match="several heads.*pbe, r2scan"):
        get_calculator(two_heads_file)
    with pytest.raises(UnknownNameError, match='did you mean "r2scan"'):
        get_calculator(two_heads_file, head="r2scn")
    atoms = bulk("Mo")
    energies = [
        with_calculator(atoms.copy(), get_calculator(two_heads_file, head=head)).get_potential_energy()
        for head in ("pbe", "r2scan")
    ]
    assert energies[0] != pytest.approx(energies[1], abs=0.1)


def test_float32_is_close_to_float64(mo_ft):
    atoms = bulk("Mo", cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=3)
    double = with_calculator(atoms.copy(), mo_ft)
    single = with_calculator(atoms.copy(), get_calculator("mo-ft", dtype="float32"))
    assert single.get_potential_energy() == pytest.approx(double.get_potential_energy(), abs=1e-5 * len(atoms))
    assert single.get_forces() == pytest.approx(double.get_forces(), abs=1e-3)
    assert single.get_forces().dtype == np.float64


def test_relaxation_of_cell_and_positions(mo_ft):
    atoms = with_calculator(bulk("Mo", a=3.2, cubic=True), mo_ft)
    atoms.rattle(0.05, seed=1)
    assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=100)
    assert np.abs(atoms.get_stress()).max() < 1e-4


def test_energy_is_conserved_in_dynamics(mo_ft):
    atoms = with_calculator(bulk("Mo", cubic=True) * (2, 2, 2), mo_ft)
    atoms.rattle(0.08, seed=4)
    dynamics = VelocityVerlet(atoms, timestep=1.0 * fs)
    start = atoms.get_total_energy()
    dynamics.run(50)
    assert atoms.get_kinetic_energy() > 0.1
    assert atoms.get_total_energy() == pytest.approx(start, abs=2e-3 * atoms.get_kinetic_energy())


def test_phonopy(mo_ft):
    atoms = bulk("Mo", a=3.16)
    phonon = Phonopy(
        PhonopyAtoms(symbols=["Mo"], cell=atoms.cell.array, scaled_positions=[[0, 0, 0]]),
        supercell_matrix=np.diag([2, 2, 2]),
    )
    phonon.generate_displacements(distance=0.01)
    phonon.forces = [
        with_calculator(Atoms("Mo8", cell=s.cell, scaled_positions=s.scaled_positions, pbc=True), mo_ft).get_forces()
        for s in phonon.supercells_with_displacements
    ]
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants()
    frequencies = phonon.run_qpoints([[0, 0, 0], [0.5, -0.5, 0.5]]).frequencies
    assert np.abs(frequencies[0]).max() < 0.05
    assert 3 < frequencies[1].min() <= frequencies[1].max() < 9


def test_copies_of_atoms(mo_ft):
    atoms = with_calculator(bulk("Mo", cubic=True), mo_ft)
    energy = atoms.get_potential_energy()
    assert atoms.copy().calc is None
    duplicate = copy.deepcopy(atoms)
    assert duplicate.calc is not mo_ft
    duplicate.rattle(0.05, seed=9)
    assert duplicate.get_potential_energy() > energy
    assert atoms.get_potential_energy() == energy


def test_results_are_not_shared_between_steps(mo_ft):
    atoms = with_calculator(bulk("Mo", cubic=True), mo_ft)
    atoms.rattle(0.05, seed=1)
    forces = atoms.get_forces()
    kept = forces.copy()
    atoms.rattle(0.05, seed=2)
    atoms.get_forces()
    assert np.array_equal(forces, kept)


def test_chgnet_is_as_strict():
    chgnet = get_calculator("chgnet")
    with pytest.raises(UnsupportedElementError, match="not trained on Po"):
        with_calculator(bulk("Po", "sc", a=3.3), chgnet).get_potential_energy()
    with pytest.raises(StructureError, match="no extent"):
        with_calculator(molecule("H2O", pbc=True), chgnet).get_potential_energy()


def test_atoms_on_each_other_are_refused(mo_ft):
    atoms = with_calculator(bulk("Mo", cubic=True), mo_ft)
    atoms.positions[1] = atoms.positions[0]
    with pytest.raises(StructureError, match="Atoms 0 and 1 .* 0 Å apart"):
        atoms.get_potential_energy()


def test_numbers_that_are_not_finite_are_refused(tiny_file):
    calculator = get_calculator(tiny_file)
    calculator.model.scale_shift.scale.fill_(float("nan"))
    with pytest.raises(StructureError, match="not finite"):
        with_calculator(bulk("Mo"), calculator).get_potential_energy()


def test_elements_in_any_order():
    """A model may list its elements in another order than the periodic table."""
    energies = []
    for numbers, e0s in (([14, 42], [[-1.25, -1000.0]]), ([42, 14], [[-1000.0, -1.25]])):
        model = build(atomic_numbers=numbers, atomic_energies=e0s)
        calculator = MaceCalculator(model, name="m", device="cpu", dtype=torch.float64)
        energies.append(with_calculator(Atoms("Si", cell=[20, 20, 20], pbc=True), calculator).get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=10.0)  # other random weights, the same E0


def test_chgnet_refuses_what_it_would_ignore():
    chgnet = get_calculator("chgnet")
    with pytest.raises(StructureError, match="every direction as periodic"):
        with_calculator(Atoms("Mo2", positions=[[0, 0, 0], [0, 0, 2.5]], cell=[3, 3, 6]), chgnet).get_forces()
    with pytest.raises(StructureError, match="isolated atom"):
        with_calculator(Atoms("Mo", cell=[15, 15, 15], pbc=True), chgnet).get_forces()


def test_ase_can_say_what_made_the_numbers(mo_ft):
    assert mo_ft.parameters["model"] == "mo-ft"
    assert mo_ft.todict()["dtype"] == "torch.float64"
