"""The Mo cases against an independent potential: what no pair potential or EMT can tell."""

from __future__ import annotations

import numpy as np

from mace_ft_bench import get_calculator
from mace_ft_bench.properties import gsfe
from mace_ft_bench.properties.structures import build
from mace_ft_bench.results.case import load_cases
from mace_ft_bench.toml_schema import parse


def test_the_121_path_leans_as_in_dft():
    """A mirrored path passes every barrier check; CHGNet knows nothing of our set-up and leans the same way as DFT."""
    case = load_cases()["molybdenum/gsfe-121"]
    settings = parse(case.settings, gsfe.Settings, where=case.id)
    found = np.array(gsfe.compute(build(case.structure), get_calculator("chgnet"), settings).gamma_j_per_m2)
    expected = np.array(case.scored_reference.values["gamma_j_per_m2"])
    lean = (found - found[::-1])[1:6], (expected - expected[::-1])[1:6]
    assert np.corrcoef(*lean)[0, 1] > 0.8
    assert lean[0][3] > 0.02  # at 4/11, against 7/11 [J/m^2]


def test_the_110_path_is_symmetric():
    case = load_cases()["molybdenum/gsfe-110"]
    settings = parse(case.settings, gsfe.Settings, where=case.id)
    found = np.array(gsfe.compute(build(case.structure), get_calculator("mo-ft"), settings).gamma_j_per_m2)
    assert np.abs(found - found[::-1]).max() < 1e-6
    assert found.argmax() in {5, 6}
