"""References from our own DFT are what the shipped frames say."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units

from mace_ft_bench.datasets.fetch import load_frames
from mace_ft_bench.properties.eos import fit_birch_murnaghan
from mace_ft_bench.results.case import select_cases


@pytest.mark.parametrize(("name", "dataset"), [("licl-gaf3/eos-licl", "gpaw-licl"), ("au2-mgo/eos-mgo", "gpaw-mgo")])
def test_equations_of_state_are_fits_to_the_frames(name, dataset):
    (case,) = select_cases([name])
    frames = [frame for frame in load_frames(dataset, "crystals") if frame.info["config_type"] == "energy-volume"]
    volumes = [frame.cell.volume / len(frame) for frame in frames]
    fit = fit_birch_murnaghan(volumes, [frame.info["REF_energy"] / len(frame) for frame in frames])
    reference = case.scored_reference.values
    assert reference["v0_angstrom3_per_atom"] == pytest.approx(fit.v0_angstrom3_per_atom, abs=1e-4)
    assert reference["b0_gpa"] == pytest.approx(fit.b0_gpa, abs=1e-3)
    assert reference["b0_prime"] == pytest.approx(fit.b0_prime, abs=1e-4)
    largest = max(abs((volume / fit.v0_angstrom3_per_atom) ** (1 / 3) - 1) for volume in volumes)
    assert largest == pytest.approx(case.settings["strain"], abs=0.01)


def test_the_phonon_of_molybdenum_is_that_of_the_frozen_frame():
    """Two atoms pulled apart by u each: the force on either is m omega^2 u."""
    (case,) = select_cases(["molybdenum/phonons"])
    frame = next(atoms for atoms in load_frames("gpaw-mo", "crystals") if atoms.info["config_type"] == "phonon-h")
    displacements = frame.positions - frame.cell.array.sum(axis=0) * np.array([[0.0], [0.5]])
    assert displacements[:, 2] == pytest.approx([-case.settings["displacement"], case.settings["displacement"]])
    squared = -frame.arrays["REF_forces"][:, 2] / frame.get_masses() / displacements[:, 2]
    thz = np.sqrt(squared.mean()) / (2 * np.pi) * 1000 * units.fs
    assert case.scored_reference.values["thz_at_H"] == pytest.approx([thz] * 3, abs=1e-4)
    assert frame.cell.lengths() == pytest.approx([case.structure.a] * 3)
