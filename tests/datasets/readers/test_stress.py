"""Stress labels in any convention."""

from __future__ import annotations

import numpy as np
import pytest

from mace_ft_bench.datasets.readers import read_frames, voigt_from
from mace_ft_bench.datasets.readers.stress import StressOptions, voigt_of_matrix
from mace_ft_bench.errors import CardError, DataError

from .conftest import ASE_ORDER, MLEARN_ORDER, mlearn_entry, write_json


@pytest.mark.parametrize(
    ("order", "moved"),
    [(ASE_ORDER, [1, 2, 3, 4, 5, 6]), (MLEARN_ORDER, [1, 2, 3, 6, 5, 4]), (["zz", "yx", "zy", "xx", "zx", "yy"], None)],
)
def test_components_move_to_their_places(order, moved):
    expected = moved or [4, 6, 1, 3, 5, 2]
    assert voigt_from([1, 2, 3, 4, 5, 6], order).tolist() == expected


@pytest.mark.parametrize(
    "order",
    [
        ASE_ORDER[:5],
        [*ASE_ORDER, "xx"],
        [*ASE_ORDER[:5], "xw"],
        [*ASE_ORDER[:5], "yz"],
        [*ASE_ORDER[:5], "zy"],
        [*ASE_ORDER[:5], "xyz"],
        [*ASE_ORDER[:5], "x"],
        [*ASE_ORDER[:5], ""],
        "xx yy zz",
    ],
    ids=str,
)
def test_a_wrong_order_is_a_card_error(order, tmp_path):
    with pytest.raises(CardError, match="name xx, yy, zz, yz, xz and xy"):
        voigt_from([1, 2, 3, 4, 5, 6], order)
    with pytest.raises(CardError, match="name xx, yy, zz, yz, xz and xy|stress_order"):
        read_frames(write_json(tmp_path, [mlearn_entry()]), "mlearn-json", {"stress_order": order})


def test_missing_components_are_a_data_error():
    with pytest.raises(DataError, match="5 components"):
        voigt_from([1, 2, 3, 4, 5], ASE_ORDER)


def options(**changes):
    return StressOptions(**{"stress_key": "s", "stress_unit": "eV/A^3", "stress_sign": "tension", **changes})


@pytest.mark.parametrize(
    ("unit", "size"),
    [("GPa", 1 / 160.21766), ("kbar", 1 / 1602.1766), ("bar", 1 / 1602176.6), ("hartree/bohr^3", 183.6315)],
)
@pytest.mark.parametrize(("sign", "factor"), [("tension", 1), ("compression", -1)])
def test_units_and_signs(unit, size, sign, factor):
    found = options(stress_unit=unit, stress_sign=sign).stress_of({"s": np.eye(3)}, 10.0, "here")
    assert found == pytest.approx(np.array([1, 1, 1, 0, 0, 0]) * factor * size, rel=1e-6)


@pytest.mark.parametrize(("unit", "size"), [("eV", 1.0), ("hartree", 27.211386)])
def test_a_unit_of_energy_is_that_of_a_virial(unit, size):
    found = options(stress_unit=unit, stress_sign="compression").stress_of({"s": np.eye(3)}, 10.0, "here")
    assert found[:3] == pytest.approx(-size / 10.0, rel=1e-7)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"stress_unit": "ev/A^3"}, r'did you mean "eV/A\^3"'),
        ({"stress_sign": "positive"}, "use one of: compression, tension"),
        ({"stress_sign": ""}, "needs stress_sign, too"),
        ({"stress_key": ""}, "needs stress_key, too"),
        ({"ignore_stress": True}, "contradicts"),
        ({"stress_order": ("xx",)}, "is no order"),
    ],
)
def test_conventions_that_say_nothing_are_card_errors(changes, match):
    with pytest.raises(CardError, match=match):
        options(**changes)


def test_the_order_of_nine_is_not_asked_and_no_other_number_is_read():
    with pytest.raises(DataError, match="nine components need no stress_order"):
        options(stress_order=ASE_ORDER).stress_of({"s": np.eye(3)}, 10.0, "here")
    with pytest.raises(DataError, match="here: the stress has 5 components"):
        options().stress_of({"s": np.ones(5)}, 10.0, "here")


def test_a_matrix_that_is_not_symmetric_is_refused_and_rounding_averaged():
    matrix = np.diag([1.0, 2.0, 3.0])
    matrix[0, 1], matrix[1, 0] = 0.5, 0.5001
    assert voigt_of_matrix(matrix, "here") == pytest.approx([1, 2, 3, 0, 0, 0.50005])
    with pytest.raises(DataError, match="here: .* not symmetric"):
        voigt_of_matrix(matrix.cumsum(axis=0), "here")
    assert voigt_of_matrix(np.zeros((3, 3)), "here").tolist() == [0] * 6
