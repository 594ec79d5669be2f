"""E0s: found, fitted as the smallest change of a prior, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mace_ft_bench.datasets.frames import labelled
from mace_ft_bench.errors import DataError
from mace_ft_bench.finetune.config import E0sConfig
from mace_ft_bench.finetune.e0s import choose_e0s, fit_e0s

TRUE = {"Li": -2.0, "Ge": -5.0, "S": -11.0}


def frame(formula, extra=0.0):
    atoms = Atoms(formula, positions=np.arange(3 * len(Atoms(formula))).reshape(-1, 3), cell=[9, 9, 9], pbc=True)
    energy = sum(TRUE[symbol] for symbol in atoms.symbols) + extra
    return labelled(atoms, energy=energy, forces=np.zeros((len(atoms), 3)), stress=None, config_type="x")


def test_independent_compositions_determine_everything():
    frames = [frame("Li2S"), frame("GeS2"), frame("Li4GeS4"), frame("Li")]
    assert fit_e0s(frames, ["Ge", "Li", "S"]) == pytest.approx(TRUE)


def test_one_composition_shifts_the_prior_along_itself():
    prior = {"Li": -1.0, "Ge": -4.0, "S": -10.0}
    found = fit_e0s([frame("Li4GeS4"), frame("Li4GeS4", 0.0)], ["Ge", "Li", "S"], prior=prior)
    change = {symbol: found[symbol] - prior[symbol] for symbol in prior}
    assert change["Li"] == pytest.approx(change["S"])
    assert change["Li"] == pytest.approx(4 * change["Ge"])
    assert sum(found[symbol] for symbol in frame("Li4GeS4").symbols) == pytest.approx(
        frame("Li4GeS4").info["REF_energy"]
    )


def test_one_composition_without_a_prior_is_refused():
    with pytest.raises(DataError, match="1 independent compositions do not determine 3 E0s") as caught:
        fit_e0s([frame("Li4GeS4"), frame("Li4GeS4")], ["Ge", "Li", "S"])
    assert "isolated-atom energies" in caught.value.fix


def test_a_prior_that_lacks_an_element_is_none():
    with pytest.raises(DataError, match="do not determine"):
        fit_e0s([frame("Li4GeS4")], ["Ge", "Li", "S"], prior={"Li": 0.0})


def test_the_interaction_is_not_explained_by_e0s():
    frames = [frame("Li2S", 0.7), frame("GeS2", -0.3), frame("LiGeS", 1.1)]
    assert fit_e0s(frames, ["Ge", "Li", "S"], interaction=[0.7, -0.3, 1.1]) == pytest.approx(TRUE)


def test_isolated_atoms():
    frames = [frame("Li"), frame("Ge"), frame("S"), frame("Li4GeS4", 5.0)]
    assert choose_e0s(E0sConfig("isolated-atoms"), frames) == pytest.approx(TRUE)
    with pytest.raises(DataError, match="no energy of S"):
        choose_e0s(E0sConfig("isolated-atoms"), [frame("Li"), frame("Ge"), frame("Li4GeS4")])
    with pytest.raises(DataError, match="Two isolated atoms of Li"):
        choose_e0s(E0sConfig("isolated-atoms"), [*frames, frame("Li", 0.1)])


def test_a_single_atom_in_a_small_cell_is_a_crystal():
    crystal = frame("Li", 0.4)
    crystal.set_cell([3, 3, 3])
    assert choose_e0s(E0sConfig("isolated-atoms"), [frame("Li"), crystal]) == pytest.approx({"Li": -2.0})


def test_given_and_parent():
    frames = [frame("Li2S")]
    assert choose_e0s(E0sConfig("given", {"Li": 1.0, "S": 2.0, "Ge": 3.0}), frames) == {"Li": 1.0, "S": 2.0}
    with pytest.raises(DataError, match="values_ev has no energy of S"):
        choose_e0s(E0sConfig("given", {"Li": 1.0}), frames)
    assert choose_e0s(E0sConfig("parent"), frames, parent=TRUE) == {"Li": -2.0, "S": -11.0}
    with pytest.raises(DataError, match="the parent has no energy of Li, S"):
        choose_e0s(E0sConfig("parent"), frames)
