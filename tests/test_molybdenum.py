"""The Mo cases against an independent potential: what no pair potential or EMT can tell."""

from __future__ import annotations

import numpy as np
import pytest

from mace_ft_bench import get_calculator
from mace_ft_bench.datasets.fetch import MIRROR_VARIABLE, load_frames
from mace_ft_bench.datasets.frames import count_groups
from mace_ft_bench.download import CACHE_VARIABLE
from mace_ft_bench.errors import MissingDataError
from mace_ft_bench.properties import gsfe
from mace_ft_bench.properties.structures import build
from mace_ft_bench.results.case import load_cases
from mace_ft_bench.results.model_spec import model_spec
from mace_ft_bench.results.runner import run
from mace_ft_bench.results.store import RecordStore
from mace_ft_bench.results.tasks import RunOptions, plan
from mace_ft_bench.toml_schema import parse


def test_the_121_path_leans_as_in_dft():
    """A mirrored path passes every barrier check; CHGNet knows nothing of our set-up and leans the same way as DFT."""
    case = load_cases()["molybdenum/gsfe-121"]
    settings = parse(case.settings, gsfe.Settings, where=case.id)
    found = np.array(gsfe.compute(build(case.structure), get_calculator("chgnet"), settings).gamma_j_per_m2)
    expected = np.array(load_cases()["molybdenum/gsfe-121-relaxed"].scored_reference.values["gamma_j_per_m2"])
    lean = (found - found[::-1])[1:6], (expected - expected[::-1])[1:6]
    assert np.corrcoef(*lean)[0, 1] > 0.8
    assert lean[0][3] > 0.02  # at 4/11, against 7/11 [J/m^2]


def test_the_110_path_is_symmetric():
    case = load_cases()["molybdenum/gsfe-110"]
    settings = parse(case.settings, gsfe.Settings, where=case.id)
    found = np.array(gsfe.compute(build(case.structure), get_calculator("mo-ft"), settings).gamma_j_per_m2)
    assert np.abs(found - found[::-1]).max() < 1e-6
    assert found.argmax() in {5, 6}


def test_the_stacking_fault_frames_are_missing_data_without_a_copy(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    case = load_cases()["molybdenum/gamma-frames"]
    (record,) = run(plan([model_spec("mo-ft")], [case], RunOptions(device="cpu")), RecordStore(tmp_path / "results"))
    assert record.status == "missing_data"
    assert "mfb data fetch tutorial-mo" in record.message


def test_the_stacking_fault_frames_are_what_the_card_says():
    """Where the data is on this machine: the groups, and forces that are labels."""
    try:
        frames = load_frames("tutorial-mo", "gamma")
    except MissingDataError as error:
        pytest.skip(str(error))
    assert count_groups(frames) == {"GammaDFT": 17, "Gamma_additional_2/110/pure": 10}
    assert {len(frame) for frame in frames} == {12, 18}
    largest = [np.abs(frame.arrays["REF_forces"]).max() for frame in frames]
    assert min(largest) > 0.5
    assert max(largest) < 5.0
    energies = np.array([frame.info["REF_energy"] / len(frame) for frame in frames]) + 1865.9665
    assert energies.min() > 0.0
    assert energies.max() < 0.25
