"""Taking a part of the energy out of labels."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.stress import voigt_6_to_full_3x3_stress

from mace_ft_bench.datasets.frames import ENERGY, FORCES, STRESS, labelled
from mace_ft_bench.datasets.subtract import SUBTRACTED, subtract
from mace_ft_bench.errors import DataError


def frame(*, stress=True):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    energy, forces = 3.0 + atoms.get_potential_energy(), 0.5 + atoms.get_forces()
    return labelled(
        atoms, energy=energy, forces=forces, stress=0.25 + atoms.get_stress() if stress else None, config_type="test"
    )


def test_the_rest_remains():
    original = frame()
    before = original.copy()
    (rest,) = subtract([original], EMT(), name="EMT")
    assert rest.info[ENERGY] == pytest.approx(3.0)
    np.testing.assert_allclose(rest.arrays[FORCES], 0.5)
    np.testing.assert_allclose(rest.info[STRESS], 0.25)
    assert rest.info[SUBTRACTED] == "EMT"
    assert rest.info["config_type"] == "test"
    assert rest.calc is None
    assert original.info.keys() == before.info.keys()
    assert original.info[ENERGY] == before.info[ENERGY]
    np.testing.assert_array_equal(original.arrays[FORCES], before.arrays[FORCES])


def test_a_stress_of_nine_numbers_is_the_same():
    original, other = frame(), frame()
    other.info[STRESS] = voigt_6_to_full_3x3_stress(other.info[STRESS])
    one, same = subtract([original, other], EMT(), name="EMT")
    np.testing.assert_allclose(one.info[STRESS], same.info[STRESS], atol=1e-15)


def test_what_is_missing_stays_missing():
    bare = frame(stress=False)
    del bare.arrays[FORCES]
    (rest,) = subtract([bare], EMT(), name="EMT")
    assert FORCES not in rest.arrays
    assert STRESS not in rest.info


def test_constraints_hide_nothing():
    fixed = frame()
    fixed.set_constraint(FixAtoms([0, 1]))
    (rest,) = subtract([fixed], EMT(), name="EMT")
    np.testing.assert_allclose(rest.arrays[FORCES], 0.5)


def test_twice_is_refused():
    rest = subtract([frame(), frame()], EMT(), name="EMT")
    with pytest.raises(DataError, match="EMT has been taken out of frame 0 before.*To fix"):
        subtract(rest, EMT(), name="EMT")


def test_unlabelled_frames_are_refused():
    with pytest.raises(DataError, match="Frame 1 has no REF_energy.*To fix"):
        subtract([frame(), bulk("Cu")], EMT(), name="EMT")
