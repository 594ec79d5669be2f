"""Models for fewer elements."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from mace_ft_bench.calculators.factory import get_calculator
from mace_ft_bench.errors import CheckpointError, UnsupportedElementError
from mace_ft_bench.finetune.config import ArchitectureConfig
from mace_ft_bench.finetune.cut_elements import cut_elements
from mace_ft_bench.finetune.initial import random_model
from mace_ft_bench.zoo.checkpoint import save_checkpoint

from .conftest import copper

E0S = {"O": -1.0, "Cu": -0.1, "Ag": 0.2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the weights of a random model of three elements."""
    shape = ArchitectureConfig("4x0e", 3.5, 2, 2, num_radial_basis=4, mlp_irreps="4x0e")
    model = random_model(shape, E0S, [copper(seed) for seed in range(4)], dtype="float32", seed=0)
    path = tmp_path_factory.mktemp("models") / "whole.safetensors"
    save_checkpoint(model, path)
    return path


def test_results_stay_and_other_elements_are_refused(whole, tmp_path):
    cut = cut_elements(str(whole), ["Ag", "Cu"], tmp_path / "cut.safetensors")
    atoms = copper(1)
    atoms.symbols[1] = "Ag"
    calculators = [get_calculator(path, device="cpu", accelerate="off") for path in (whole, cut)]
    before, after = (calculator.evaluate([atoms])[0] for calculator in calculators)
    assert after["energy"] == pytest.approx(before["energy"], abs=1e-6)
    np.testing.assert_allclose(after["forces"], before["forces"], atol=1e-6)
    oxide = bulk("CuO", "rocksalt", a=4.2)
    assert np.isfinite(calculators[0].evaluate([oxide])[0]["energy"])
    with pytest.raises(UnsupportedElementError, match="O"):
        calculators[1].evaluate([oxide])


def test_refusals(whole, tmp_path):
    with pytest.raises(UnsupportedElementError, match="does not know Xx") as caught:
        cut_elements(str(whole), ["Cu", "Xx"], tmp_path / "cut.safetensors")
    assert "O, Cu, Ag" in caught.value.fix
    with pytest.raises(CheckpointError, match="exists"):
        cut_elements(str(whole), ["Cu"], whole)
    with pytest.raises(CheckpointError, match="would hold weights"):
        cut_elements(str(whole), ["Cu"], tmp_path / "cut.model")
    with pytest.raises(CheckpointError, match="does not exist"):
        cut_elements(str(whole), ["Cu"], tmp_path / "nowhere" / "cut.safetensors")
    assert not list(tmp_path.iterdir())
