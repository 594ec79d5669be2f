"""Phonons: springs between nearest neighbours, ASE's own finite displacements, and thermodynamics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.phonons import Phonons
from ase.units import _amu, _e, kB

from mace_ft_bench.errors import CardError, DataError, StructureError, UnstableError
from mace_ft_bench.properties import phonons

A_EMT = 3.5898  # lattice constant of EMT copper [Angstrom], computed in test_relax
R0, EPSILON, RHO0 = 2.8, 0.5, 4.0
K = 2 * EPSILON * (RHO0 / R0) ** 2  # second derivative of the Morse potential at its minimum [eV/Angstrom^2]
NEAREST = MorsePotential(epsilon=EPSILON, r0=R0, rho0=RHO0, rcut1=1.1, rcut2=1.3)
FAST = phonons.Settings(supercell_length=8.0, relax=False, mesh_length=30.0)


def thz(stiffness, mass):
    """Frequency of stiffness [eV/Angstrom^2] and mass [u]."""
    return np.sqrt(stiffness * _e / 1e-20 / (mass * _amu)) / (2 * np.pi * 1e12)


@pytest.fixture(scope="module")
def springs_of_fcc():
    crystal = bulk("Al", "fcc", a=R0 * np.sqrt(2), cubic=True)
    return phonons.compute(crystal, NEAREST, replace(FAST, displacement=1e-3))


@pytest.fixture(scope="module")
def emt_copper():
    return phonons.compute(bulk("Cu", "fcc", a=A_EMT), EMT(), replace(FAST, supercell_length=10.0))


@pytest.mark.parametrize(("point", "transverse", "longitudinal"), [("X", 4, 8), ("L", 2, 8)])
def test_springs_between_neighbours_of_fcc(springs_of_fcc, point, transverse, longitudinal):
    """Zone-boundary modes by hand; for example C. Kittel, Introduction to Solid State Physics, chapter 4."""
    mass = 26.9815385
    expected = [thz(transverse * K, mass)] * 2 + [thz(longitudinal * K, mass)]
    assert springs_of_fcc.thz_at[point] == pytest.approx(expected, rel=1e-4)


def test_acoustic_modes_at_gamma_are_zero(springs_of_fcc):
    assert np.abs(springs_of_fcc.thz_at["G"]).max() < 1e-4
    assert not springs_of_fcc.imaginary


def test_copper_agrees_with_ase(tmp_path, emt_copper):
    theirs = Phonons(bulk("Cu", "fcc", a=A_EMT), EMT(), supercell=(5, 5, 5), delta=0.01, name=str(tmp_path / "phonon"))
    theirs.run()
    theirs.read(acoustic=True)
    ev = theirs.band_structure([[0.5, 0, 0.5], [0.5, 0.5, 0.5]])  # X and L
    frequencies = np.array(ev) * _e / 6.62607015e-34 / 1e12
    for point, expected in zip("XL", frequencies, strict=True):
        assert emt_copper.thz_at[point] == pytest.approx(np.sort(expected), rel=0.005)


def test_there_are_three_modes_per_atom(emt_copper):
    states = np.trapezoid(emt_copper.dos_states_per_thz_and_atom, emt_copper.dos_thz)
    assert states == pytest.approx(3, rel=0.01)


def test_heat_capacity_follows_dulong_and_petit():
    hot = phonons.compute(bulk("Cu", "fcc", a=A_EMT), EMT(), replace(FAST, temperature=3000.0))
    cold = phonons.compute(bulk("Cu", "fcc", a=A_EMT), EMT(), replace(FAST, temperature=5.0))
    assert hot.heat_capacity_j_per_mol_k == pytest.approx(3 * 8.314462618, rel=2e-3)
    assert 0 <= cold.heat_capacity_j_per_mol_k < 0.1


def test_entropy_is_minus_the_slope_of_the_free_energy():
    crystal = bulk("Cu", "fcc", a=A_EMT)
    low, middle, high = (phonons.compute(crystal, EMT(), replace(FAST, temperature=t)) for t in (295.0, 300.0, 305.0))
    slope = (high.free_energy_mev_per_atom - low.free_energy_mev_per_atom) / 10
    assert middle.entropy_j_per_mol_k == pytest.approx(-slope / 1000 / kB * 8.314462618, rel=1e-3)
    assert middle.zero_point_mev_per_atom > middle.free_energy_mev_per_atom


def test_zero_point_energy_is_half_a_quantum_of_every_mode(emt_copper):
    dos, frequency = np.array(emt_copper.dos_states_per_thz_and_atom), np.array(emt_copper.dos_thz)
    expected = 0.5 * np.trapezoid(dos * frequency, frequency) * 6.62607015e-34 * 1e12 / _e * 1000
    assert emt_copper.zero_point_mev_per_atom == pytest.approx(expected, rel=0.01)


def test_the_cell_that_is_given_does_not_matter():
    primitive = phonons.compute(bulk("Cu", "fcc", a=A_EMT), EMT(), replace(FAST, supercell_length=14.0))
    cubic = phonons.compute(bulk("Cu", "fcc", a=A_EMT, cubic=True), EMT(), replace(FAST, supercell_length=14.0))
    assert cubic.thz_at["X"] == pytest.approx(primitive.thz_at["X"], rel=0.01)
    assert cubic.thz_at.keys() == primitive.thz_at.keys()
    assert cubic.heat_capacity_j_per_mol_k == pytest.approx(primitive.heat_capacity_j_per_mol_k, rel=1e-3)


def test_relaxation_comes_first(emt_copper):
    strained = bulk("Cu", "fcc", a=A_EMT * 1.01)
    relaxed = phonons.compute(strained, EMT(), replace(FAST, supercell_length=10.0, relax=True))
    assert relaxed.thz_at["X"] == pytest.approx(emt_copper.thz_at["X"], rel=1e-3)
    assert phonons.compute(strained, EMT(), FAST).thz_at["X"][0] < 0.98 * relaxed.thz_at["X"][0]


def test_imaginary_modes_are_flagged_and_leave_no_thermal_properties():
    """Springs under pressure buckle: a compressed simple cubic crystal has nothing that resists shear."""
    compressed = bulk("Al", "sc", a=0.98 * R0)
    unstable = phonons.compute(compressed, NEAREST, FAST)
    assert unstable.imaginary
    assert unstable.lowest_thz < -0.1
    assert unstable.heat_capacity_j_per_mol_k is None
    assert phonons.compare(unstable, {"heat_capacity_j_per_mol_k": 24.0}) == {}


def test_errors_are_those_that_were_put_in(emt_copper):
    reference = {f"thz_at_{point}": [value - 0.25 for value in emt_copper.thz_at[point]] for point in ("X", "L")}
    reference |= {"heat_capacity_j_per_mol_k": emt_copper.heat_capacity_j_per_mol_k / 1.1}
    errors = phonons.compare(emt_copper, reference)
    highest = emt_copper.thz_at["X"][2]
    assert errors["frequency_rms_thz"] == pytest.approx(0.25)
    mean = np.mean([emt_copper.thz_at[point] for point in ("X", "L")])
    assert errors["frequency_percent"] == pytest.approx(100 * 0.25 / (mean - 0.25))
    assert errors["highest_percent"] == pytest.approx(100 * 0.25 / (highest - 0.25))
    assert errors["heat_capacity_percent"] == pytest.approx(10)
    assert set(errors) == {"frequency_rms_thz", "frequency_percent", "highest_percent", "heat_capacity_percent"}


def test_acoustic_modes_at_gamma_do_not_dilute_an_error(emt_copper):
    diamond = replace(emt_copper, thz_at={"G": (-1e-6, 0.0, 1e-6, 15.0, 15.0, 15.0)})
    errors = phonons.compare(diamond, {"thz_at_G": [0.0, 0.0, 0.0, 14.0, 14.0, 14.0]})
    assert errors["frequency_rms_thz"] == pytest.approx(1)
    assert errors["highest_percent"] == pytest.approx(100 / 14)


@pytest.mark.parametrize("noise", [1e-5, 1e-3])
def test_noise_of_a_relaxation_does_not_hide_the_symmetry(noise, emt_copper):
    crystal = bulk("Cu", "fcc", a=A_EMT, cubic=True)
    crystal.positions += noise * np.random.default_rng(0).normal(size=(4, 3))
    crystal.set_cell(crystal.cell + noise * np.random.default_rng(1).normal(size=(3, 3)))
    found = phonons.compute(crystal, EMT(), replace(FAST, supercell_length=10.0))
    assert found.space_group == emt_copper.space_group == "Fm-3m"
    assert found.displaced_supercells == 1
    assert found.thz_at["X"] == pytest.approx(emt_copper.thz_at["X"], rel=5e-3)
    assert [name for _, name in found.path_labels] == [name for _, name in emt_copper.path_labels]


def test_a_crystal_that_gives_way_is_no_longer_compared():
    """A square of atoms under springs shears: what is left is another crystal."""
    fcc = bulk("Cu", "fcc", a=A_EMT, cubic=True)
    with pytest.raises(StructureError, match="turned Fm-3m into"):
        phonons._set_on_symmetry(_stretched(fcc), fcc, 5e-3)


def _stretched(crystal):
    stretched = crystal.copy()
    stretched.set_cell(crystal.cell * (1, 1, 1.02), scale_atoms=True)
    return stretched


def test_the_path_is_measured_in_reciprocal_angstrom(emt_copper):
    """From Gamma to X of fcc it is 1/a."""
    labels = emt_copper.path_labels
    assert [name for _, name in labels[:2]] == ["G", "X"]
    assert labels[1][0] == pytest.approx(1 / A_EMT, rel=1e-6)
    assert emt_copper.path_distance[-1] == pytest.approx(labels[-1][0])


def test_images_are_as_far_apart_as_asked_in_a_skewed_cell():
    skewed = Atoms("Cu", cell=[10, 10, 10, 24, 24, 24], pbc=True)
    supercell = skewed.repeat(phonons.supercell_of(skewed, 12.0))
    assert supercell.cell.minkowski_reduce()[0].lengths().min() >= 12.0
    assert phonons.supercell_of(bulk("Cu", "fcc", a=4.0, cubic=True), 12.0) == (3, 3, 3)


def test_heavier_isotopes_are_slower(emt_copper):
    heavy = bulk("Cu", "fcc", a=A_EMT)
    heavy.set_masses([4 * heavy.get_masses()[0]])
    found = phonons.compute(heavy, EMT(), replace(FAST, supercell_length=10.0))
    assert found.thz_at["X"] == pytest.approx(np.array(emt_copper.thz_at["X"]) / 2, rel=1e-6)


def test_references_that_do_not_fit_are_refused(emt_copper):
    with pytest.raises(DataError, match='frequencies at "H".*G, K, L'):
        phonons.compare(emt_copper, {"thz_at_H": [1.0] * 3})
    with pytest.raises(DataError, match="2 frequencies at X, the crystal 3"):
        phonons.compare(emt_copper, {"thz_at_X": [1.0] * 2})


def test_bad_input(recorder):
    with pytest.raises(StructureError, match="needs a crystal"):
        phonons.compute(Atoms("Cu"), EMT(), FAST)
    with pytest.raises(CardError, match="displacement"):
        phonons.Settings(displacement=-0.01)
    with pytest.raises(CardError, match="points = 10"):
        phonons.Settings(points=10)
    with pytest.raises(CardError, match="names 'Q'.*") as error:  # before any force: the calculator has none
        phonons.compute(bulk("Cu", "fcc", a=A_EMT), None, replace(FAST, path="GQX"))
    assert "the lattice has G, K, L" in error.value.fix
    broken = recorder()
    broken.calculate_properties = None
    broken.get_forces = lambda atoms: np.full((len(atoms), 3), np.nan)
    with pytest.raises(UnstableError, match="a force"):
        phonons.compute(bulk("Cu", "fcc", a=A_EMT), broken, FAST)
