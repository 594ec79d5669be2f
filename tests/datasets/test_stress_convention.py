"""The check of stress labels finds every mistake planted in the labels of EMT copper."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.stress import voigt_6_to_full_3x3_stress

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.datasets.stress_convention import pressure_response, shear_response
from mace_ft_bench.errors import DataError
from mace_ft_bench.units import EV_PER_A3_IN_GPA

PLANES = [(1, 2), (0, 2), (0, 1)]
SHEARS = (-0.01, -0.005, 0.005, 0.01)


def sheared(crystal, plane, gamma):
    atoms = crystal.copy()
    gradient = np.eye(3)
    gradient[plane] = gamma
    atoms.set_cell(atoms.cell @ gradient, scale_atoms=True)
    return atoms


@pytest.fixture
def frames(copper, emt):
    return [emt(sheared(copper, plane, gamma), "Elastic") for plane in PLANES for gamma in SHEARS]


@pytest.fixture
def c44_gpa(copper):
    """C44 from the curvature of the energy, without any stress."""
    step = 0.002

    def energy(gamma):
        atoms = sheared(copper, (1, 2), gamma)
        atoms.calc = EMT()
        return atoms.get_potential_energy()

    curvature = (energy(step) - 2 * energy(0.0) + energy(-step)) / step**2
    return curvature / copper.cell.volume * EV_PER_A3_IN_GPA


def relabelled(frames, change):
    return [
        labelled(
            frame,
            energy=frame.info["REF_energy"],
            forces=frame.arrays["REF_forces"],
            stress=change(frame.info["REF_stress"]),
            config_type="Elastic",
        )
        for frame in frames
    ]


def test_right_labels_give_c44_times_the_identity(frames, copper, c44_gpa):
    response = shear_response(frames, copper.cell.array)
    assert response.is_consistent
    assert response.frames == 12
    matrix = np.array(response.modulus_gpa)
    # Simple shear of a crystal under pressure turns as well as strains: the pressure enters at first order.
    assert np.diag(matrix) == pytest.approx(3 * [c44_gpa], rel=0.05)
    assert np.abs(matrix - np.diag(np.diag(matrix))).max() < 0.01 * c44_gpa
    assert 50 < c44_gpa < 150


@pytest.mark.parametrize(
    "change",
    [
        lambda stress: -stress,
        lambda stress: stress[[0, 1, 2, 5, 4, 3]],  # yz and xy swapped
        lambda stress: stress[[0, 1, 2, 4, 3, 5]],  # yz and xz swapped
        lambda stress: stress[[0, 1, 2, 4, 5, 3]],  # rotated
        lambda stress: stress * [1, 1, 1, 1, 1, -1],  # the sign of one component
        lambda stress: stress[[3, 4, 5, 0, 1, 2]],  # shears first
        lambda stress: stress * [1, 1, 1, 1, 0, 1],  # one component lost
    ],
)
def test_sign_and_order_mistakes_are_inconsistent(frames, copper, change):
    assert not shear_response(relabelled(frames, change), copper.cell.array).is_consistent


def test_a_wrong_unit_shows_in_the_number(frames, copper, c44_gpa):
    in_gpa = shear_response(relabelled(frames, lambda stress: stress * EV_PER_A3_IN_GPA), copper.cell.array)
    assert in_gpa.is_consistent
    assert in_gpa.modulus_gpa[0][0] == pytest.approx(EV_PER_A3_IN_GPA * c44_gpa, rel=0.05)


def test_a_volume_change_and_an_offset_do_not_disturb(frames, copper, emt):
    stretched = [emt(sheared(copper, (0, 0), 1 + strain), "Elastic") for strain in (-0.01, 0.01)]
    shifted = relabelled(frames, lambda stress: stress + 0.01)
    assert shear_response([*shifted, *relabelled(stretched, lambda s: s + 0.01)], copper.cell.array).is_consistent


def test_frames_sheared_in_two_planes_only_prove_nothing(frames, copper, emt):
    for few in (frames[:8], [], [emt(copper)]):
        with pytest.raises(DataError, match="all three planes"):
            shear_response(few, copper.cell.array)


def test_frames_without_stress_are_left_out(frames, copper):
    frames[0].info.pop("REF_stress")
    assert shear_response(frames, copper.cell.array).frames == 11


STRAINS = np.linspace(-0.02, 0.02, 9)


def strained(crystal, linear):
    atoms = crystal.copy()
    atoms.set_cell(atoms.cell * (1 + linear), scale_atoms=True)
    return atoms


@pytest.fixture
def expanded(copper, emt):
    """Return an equation of state, for cells of 4 and of 32 atoms."""
    return [emt(strained(crystal, linear)) for linear in STRAINS for crystal in (copper, copper * 2)]


@pytest.fixture
def bulk_modulus_gpa(copper):
    """Return the bulk modulus from the curvature of the energy, without any stress."""
    step = 0.002

    def energy(linear):
        atoms = strained(copper, linear)
        atoms.calc = EMT()
        return atoms.get_potential_energy()

    curvature = (energy(step) - 2 * energy(0.0) + energy(-step)) / step**2
    slope = (energy(step) - energy(-step)) / (2 * step)
    return (curvature - 2 * slope) / (9 * copper.cell.volume) * EV_PER_A3_IN_GPA


def test_right_labels_give_the_bulk_modulus_and_agree_with_the_energies(expanded, bulk_modulus_gpa):
    response = pressure_response(expanded)
    assert response.is_consistent
    assert response.frames == 18
    assert response.bulk_modulus_gpa == pytest.approx(bulk_modulus_gpa, rel=0.03)
    assert response.ratio_to_energies == pytest.approx(1.0, abs=0.01)
    assert 100 < bulk_modulus_gpa < 200


@pytest.mark.parametrize(
    ("change", "consistent", "ratio"),
    [
        (lambda stress: -stress, False, -1.0),
        (lambda stress: stress * EV_PER_A3_IN_GPA, True, EV_PER_A3_IN_GPA),
        (lambda stress: stress / 1602.1766, True, 1 / 1602.1766),
        (lambda stress: stress[[3, 4, 5, 0, 1, 2]], False, 0.0),
        (lambda stress: stress + 0.3, True, 1.0),  # as of the kinetic part, or of Pulay stress
    ],
)
def test_sign_and_unit_mistakes_show(expanded, change, consistent, ratio):
    response = pressure_response(relabelled(expanded, change))
    assert response.is_consistent is consistent
    assert response.ratio_to_energies == pytest.approx(ratio, rel=0.01, abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_frames_of_molecular_dynamics_tell_the_sign(copper, emt, sign):
    """Rattled frames: a noise on the pressure as large as its range, and energies that follow no equation of state."""
    generator = np.random.default_rng(0)
    frames = []
    for linear in generator.uniform(-0.01, 0.01, 200):
        atoms = strained(copper * 2, linear)
        atoms.rattle(0.15, rng=generator)
        frames.append(emt(atoms))
    response = pressure_response(relabelled(frames, lambda stress: sign * stress))
    assert response.is_consistent is (sign > 0)
    assert abs(response.bulk_modulus_gpa) > 3 * response.standard_error_gpa


def test_nine_numbers_say_the_same_as_six(expanded):
    whole = [frame.copy() for frame in expanded]
    for frame in whole:  # as ASE reads them
        frame.info["REF_stress"] = voigt_6_to_full_3x3_stress(frame.info["REF_stress"])
    full = pressure_response(whole)
    assert full.bulk_modulus_gpa == pytest.approx(pressure_response(expanded).bulk_modulus_gpa)
    assert full.ratio_to_energies == pytest.approx(1.0, abs=0.01)


def test_noise_is_no_evidence(expanded):
    generator = np.random.default_rng(1)
    noisy = relabelled(expanded, lambda _stress: generator.normal(size=6))
    assert not pressure_response(noisy).is_consistent


def test_without_energies_there_is_no_ratio(expanded):
    expanded[0].info.pop("REF_energy")
    assert pressure_response(expanded).ratio_to_energies is None
    few = [frame for frame in expanded for _ in range(2) if len(frame) == 4][:6]
    assert pressure_response(few).ratio_to_energies is None


def test_frames_that_prove_nothing_about_the_pressure_are_refused(expanded, copper, emt):
    for frames in (expanded[:1], [], [emt(copper)] * 9):
        with pytest.raises(DataError, match="hardly differ in volume"):
            pressure_response(frames)
    with pytest.raises(DataError, match="differ in composition"):
        pressure_response([*expanded, emt(bulk("Al", cubic=True))])
