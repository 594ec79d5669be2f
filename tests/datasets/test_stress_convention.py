"""The check of stress labels finds every mistake planted in the labels of EMT copper."""

from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.emt import EMT

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.datasets.stress_convention import shear_response
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
