"""References from our own DFT are what the shipped frames say."""

from __future__ import annotations

import pytest

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
