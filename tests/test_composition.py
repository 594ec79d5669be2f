"""Zeros of elements: found where compositions determine them, smallest where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from mace_ft_bench.composition import composition_shares, fit_element_zeros


def test_shares_add_up_to_one_in_the_order_of_the_elements():
    shares, elements = composition_shares([["O", "H", "H"], ["H"], ["C", "O"]])
    assert elements == ["C", "H", "O"]
    assert shares.tolist() == [[0, 2 / 3, 1 / 3], [0, 1, 0], [0.5, 0, 0.5]]


def test_zeros_are_found():
    shares, _ = composition_shares([["O", "H", "H"], ["H"], ["C", "O"], ["C", "H"]])
    zeros = np.array([-3.0, 1.0, 7.0])
    found, rank = fit_element_zeros(shares, shares @ zeros)
    assert rank == 3
    assert found == pytest.approx(zeros)


def test_one_composition_has_one_zero_which_is_the_mean():
    shares, _ = composition_shares([["O", "H", "H"]] * 3)
    energies = np.array([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])
    found, rank = fit_element_zeros(shares, energies)
    assert rank == 1
    assert shares @ found == pytest.approx(np.array([[3.0, 30.0]] * 3))
