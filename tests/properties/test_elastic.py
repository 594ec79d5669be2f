"""Elastic constants: springs with analytic constants, EMT copper against finite differences of the energy."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from elastic.elastic import get_cij_order, get_elastic_tensor, get_elementary_deformations
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_ft_bench.errors import CardError, StructureError, UnconvergedError, UnstableError
from mace_ft_bench.properties import elastic, relax
from mace_ft_bench.toml_schema import parse
from mace_ft_bench.units import EV_PER_A3_IN_GPA

SMALL = elastic.Settings(strain_percent=0.05)
BRAVAIS = {
    "tetragonal": (np.diag([3.0, 3.0, 3.5]), [9, 7, 3, 2]),
    "orthorhombic": (np.diag([3.0, 3.2, 3.5]), [9, 8, 7, 3, 2, 1.5]),
    "hexagonal": (np.array([[3, 0, 0], [-1.5, 1.5 * np.sqrt(3), 0], [0, 0, 3.4]]), [9, 7, 3]),
    "trigonal": (np.array([[2, 0, 3], [-1, np.sqrt(3), 3], [-1, -np.sqrt(3), 3]]), [9, 5, 3]),
    "triclinic": (np.array([[3.0, 0, 0], [0.5, 3.2, 0], [0.7, 0.3, 3.5]]), [9, 8, 7, 6, 5, 4, 3]),
}


def energy_stiffness(atoms: Atoms, calc, step: float = 2e-3) -> np.ndarray:
    """Return the cubic C11, C12, C44 [GPa] from finite differences of the energy alone, relaxing internally."""

    def energy(strain):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        return relax.relaxed(strained, calc, cell=False, fmax=1e-5).get_potential_energy()

    def curvature(strain):
        strain = np.array(strain, dtype=float)
        return (energy(step * strain) - 2 * energy(0 * strain) + energy(-step * strain)) / step**2

    c11 = curvature(np.diag([1, 0, 0]))
    c12 = (curvature(np.diag([1, 1, 0])) - 2 * c11) / 2
    c44 = curvature([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]])  # engineering shear of one
    return np.array([c11, c12, c44]) / atoms.cell.volume * EV_PER_A3_IN_GPA


def constants(result: elastic.Result) -> tuple:
    return result.c11_gpa, result.c12_gpa, result.c44_gpa


@settings(max_examples=5, deadline=None)
@given(a=st.floats(2.5, 4), k1=st.floats(3, 20), k2=st.floats(0.5, 5))
def test_simple_cubic_springs_give_the_analytic_constants(springs, a, k1, k2):
    crystal = bulk("Cu", "sc", a=a)
    result = elastic.compute(crystal, springs(crystal, [k1, k2]), SMALL)
    expected = np.array([k1 + 2 * k2, k2, k2]) / a * EV_PER_A3_IN_GPA
    assert constants(result) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("cubic", [True, False])
def test_diamond_springs_need_internal_relaxation(springs, cubic):
    """Nearest-neighbour springs resist a shear only while the sublattices may not shift: C44 = 2 k2 / a."""
    a, k1, k2 = 5.4, 9.0, 2.0
    crystal = bulk("Si", "diamond", a=a, cubic=cubic)
    calc = springs(crystal, [k1, k2])
    result = elastic.compute(crystal, calc, SMALL)
    expected = np.array([k1 / 3 + 4 * k2, k1 / 3 + 2 * k2, 2 * k2]) / a * EV_PER_A3_IN_GPA
    assert constants(result) == pytest.approx(expected, rel=2e-3)
    assert calc.affine_stiffness()[3, 3] == pytest.approx((k1 / 3 + 2 * k2) / a)
    assert (result.a_angstrom is None) is not cubic


@pytest.mark.parametrize("lattice", BRAVAIS)
def test_lower_symmetries_give_the_exact_tensor(springs, lattice):
    cell, k = BRAVAIS[lattice]
    crystal = Atoms("Cu", cell=cell, pbc=True)
    calc = springs(crystal, k)
    result = elastic.compute(crystal, calc, SMALL)
    expected = calc.affine_stiffness() * EV_PER_A3_IN_GPA
    assert np.array(result.stiffness_gpa) == pytest.approx(expected, abs=2e-3 * expected.max())
    assert result.c11_gpa is None
    assert result.constants_gpa["C_33"] == pytest.approx(expected[2, 2], rel=2e-3)


def test_the_library_loses_c44_of_a_tetragonal_crystal(springs):
    """Why only cubic crystals go through its fit; when this fails, elastic was repaired."""
    cell, k = BRAVAIS["tetragonal"]
    crystal = Atoms("Cu", cell=cell, pbc=True)
    crystal.calc = springs(crystal, k)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # spglib 2.8 about its old error handling
        strained = get_elementary_deformations(crystal, n=5, d=0.05)
        for cell_ in strained:
            cell_.calc = springs(Atoms("Cu", cell=cell, pbc=True), k)
        found = dict(zip(get_cij_order(crystal), get_elastic_tensor(crystal, strained)[0], strict=True))
    assert found["C_66"] == pytest.approx(crystal.calc.affine_stiffness()[5, 5], rel=1e-3)
    assert abs(found["C_44"]) < 1e-6 * found["C_66"]


def test_copper_agrees_with_finite_differences_of_the_energy(copper):
    result = elastic.compute(copper, EMT(), replace(SMALL, strain_percent=0.2))
    crystal = relax.relaxed(copper, EMT(), cell=True, fmax=1e-5)
    assert constants(result) == pytest.approx(energy_stiffness(crystal, EMT()), rel=0.01)
    assert result.bulk_modulus_gpa == pytest.approx((result.c11_gpa + 2 * result.c12_gpa) / 3)
    assert result.residual_stress_gpa < 0.01
    assert result.a_angstrom == pytest.approx(3.59, abs=0.01)


def test_primitive_cell_and_noise_give_the_same(copper):
    noisy = copper.copy()
    noisy.rattle(3e-5, seed=1)  # enough for the library to call it triclinic
    results = [elastic.compute(atoms, EMT(), SMALL) for atoms in (copper, bulk("Cu", "fcc", a=3.55), noisy)]
    assert constants(results[1]) == pytest.approx(constants(results[0]), rel=1e-3)
    assert constants(results[2]) == pytest.approx(constants(results[0]), rel=1e-3)


def test_noise_that_the_relaxation_leaves_does_not_hide_the_symmetry(copper):
    noisy = copper.copy()
    noisy.rattle(2e-4, seed=1)
    loose = elastic.Settings(fmax=5e-3, stress_limit_gpa=1)  # as a float32 model at its noise
    result = elastic.compute(noisy, EMT(), loose)
    assert set(result.constants_gpa) == {"C_11", "C_12", "C_44"}
    assert constants(result) == pytest.approx(constants(elastic.compute(copper, EMT(), elastic.Settings())), rel=0.02)


def test_rotated_cubic_crystal_is_refused(copper):
    copper.rotate(45, "z", rotate_cell=True)
    with pytest.raises(StructureError, match="cube axes"):
        elastic.compute(copper, EMT(), elastic.Settings())


@settings(max_examples=20, deadline=None)
@given(bulk_modulus=st.floats(50, 400), shear=st.floats(10, 200))
def test_hill_average_of_an_isotropic_solid_is_exact(bulk_modulus, shear):
    stiffness = np.zeros((6, 6))
    stiffness[:3, :3] = bulk_modulus - 2 * shear / 3
    stiffness += np.diag([2 * shear] * 3 + [shear] * 3)
    assert elastic.hill_average(stiffness) == pytest.approx((bulk_modulus, shear))


def test_hill_average_of_copper_matches_the_cubic_formulas():
    c11, c12, c44 = 168.4, 121.4, 75.4  # GPa, Simmons and Wang 1971
    stiffness = np.zeros((6, 6))
    stiffness[:3, :3] = c12
    np.fill_diagonal(stiffness, [c11] * 3 + [c44] * 3)
    voigt = (c11 - c12 + 3 * c44) / 5
    reuss = 5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12))
    assert elastic.hill_average(stiffness) == pytest.approx(((c11 + 2 * c12) / 3, (voigt + reuss) / 2))


def test_negative_shear_is_unstable(springs):
    crystal = bulk("Cu", "sc", a=3.0)
    with pytest.raises(UnstableError, match="eigenvalue"):
        elastic.compute(crystal, springs(crystal, [9.0, -0.5]), SMALL)


def test_no_stiffness_at_all_is_unstable(copper, recorder):
    with pytest.raises(UnstableError, match="eigenvalue"):
        elastic.compute(copper, recorder(), SMALL)


def test_residual_stress_above_the_limit_is_unconverged(copper):
    with pytest.raises(UnconvergedError, match="GPa, above"):
        elastic.compute(copper, EMT(), elastic.Settings(fmax=0.5, stress_limit_gpa=0.01))


def test_too_few_steps_are_unconverged(copper):
    with pytest.raises(UnconvergedError, match="1 steps"):
        elastic.compute(copper, EMT(), elastic.Settings(max_steps=1, fmax=1e-6))


@pytest.mark.parametrize(
    "bad", [{"strain_percent": 0}, {"strain_percent": 50}, {"points": 1}, {"stress_limit_gpa": -1}]
)
def test_nonsense_settings_are_card_errors(bad):
    with pytest.raises(CardError, match=next(iter(bad))):
        parse(bad, elastic.Settings, where="a card")


def fabricated(**changes) -> elastic.Result:
    values = {
        "c11_gpa": 400.0,
        "c12_gpa": 150.0,
        "c44_gpa": 100.0,
        "constants_gpa": {},
        "stiffness_gpa": (),
        "bulk_modulus_gpa": 250.0,
        "shear_modulus_gpa": 110.0,
        "poisson_ratio": 0.3,
        "born_stable": True,
        "misfit_percent": 0.0,
        "residual_stress_gpa": 0.0,
        "a_angstrom": 3.2,
    }
    return elastic.Result(**(values | changes))


def test_compare_returns_the_planted_error_with_its_sign():
    reference = {"c11_gpa": 400.0, "c12_gpa": 200.0, "c44_gpa": 80.0}
    assert elastic.compare(fabricated(), reference) == pytest.approx(
        {"c11_percent": 0.0, "c12_percent": -25.0, "c44_percent": 25.0}
    )
    assert elastic.compare(fabricated(c44_gpa=-80.0), reference)["c44_percent"] == pytest.approx(-200)
    more = {"bulk_modulus_gpa": 200.0, "shear_modulus_gpa": 100.0, "a_angstrom": 3.2, "poisson_ratio": 0.25}
    assert elastic.compare(fabricated(), more) == pytest.approx(
        {"bulk_modulus_percent": 25.0, "shear_modulus_percent": 10.0, "a_percent": 0.0, "poisson_ratio": 0.05}
    )
